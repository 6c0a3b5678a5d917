"""From a run to a file that a device runs: `python -m larq_ssl.experiments.export --run=<run folder> --out=<folder>`.

The network (`--head=none`), or one with a classifier on top (`--head=linear|classifier`), is packed by Larq Compute
Engine, compared with Keras on real images, and written with the result of that (`export.json`), a model card and a
SavedModel. If a binary layer is not packed or computes something else, nothing is written.
"""

import os
import pathlib
from typing import Any

from absl import flags

from larq_ssl import export
from larq_ssl.evaluation.untrained import untrained
from larq_ssl.experiments import common, export_card, export_head, export_images, probed
from larq_ssl.models import ARCHITECTURES, Encoder
from larq_ssl.models.folder import load_encoder

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(probed)
flags.adopt_module_key_flags(export_head)

_PIXELS = flags.DEFINE_enum("pixels", "uint8", list(export.PIXELS), "Type of the pixels that the file takes, 0 to 255.")
_ALLOW_FLOAT = flags.DEFINE_bool(
    "allow_float", False, "Export a network that cannot be packed (stage 1, float) as a float file."
)
_TWIN = flags.DEFINE_bool("float_twin", False, "Also write the float network of the same shape, as TensorFlow Lite.")
_SAVED_MODEL = flags.DEFINE_bool("saved_model", True, "Also write a SavedModel.")
_INT8 = flags.DEFINE_bool(
    "int8", True, "Try first and last layers in 8 bits, and keep that if the file then still passes the audit."
)
_AUDIT = flags.DEFINE_integer("audit_images", 500, "Images that the file is compared with Keras on.", 8)


def out_folder() -> pathlib.Path:
    """The folder of `--out`.

    # Raises
        ValueError: If none is named, or something is there.
    """
    if not FLAGS.out:
        raise ValueError("--out is missing: the folder to write the files into.")
    if os.path.lexists(FLAGS.out):
        raise ValueError(f"--out={FLAGS.out} exists already: name another folder.")
    folder = pathlib.Path(FLAGS.out)
    above = next(parent for parent in folder.absolute().parents if parent.exists())
    if not above.is_dir():
        raise ValueError(f"--out={FLAGS.out} cannot be made: {above} is a file.")
    return folder


def refuse(encoder: Encoder) -> None:
    """Refuses what cannot be exported.

    # Raises
        ValueError: With the reason.
    """
    if FLAGS.raw_pixels:
        raise ValueError("--raw_pixels is no network: there is nothing to export.")
    if FLAGS.probe_dir is not None:
        raise ValueError(f"--probe_dir={FLAGS.probe_dir} has no meaning here: what is written goes to --out.")
    reason = export.refusal(encoder.spec)
    if reason is not None and not _ALLOW_FLOAT.value:
        raise ValueError(f"{reason} Export the run of stage 2, or give --allow_float.")
    if _TWIN.value and "none" not in ARCHITECTURES[encoder.spec.name].binarizations:
        raise ValueError(f"--float_twin is not possible: {encoder.spec.name} has no float form.")
    export.compute_engine()


def show(record: dict[str, Any]) -> None:
    """Tells what was written."""
    audit = record["audit"]
    size = audit["size"]
    common.say(
        f"{audit['packed_layers']} of {audit['binary_layers']} binary layers are packed; {size['file_bytes']:,} bytes, "
        f"{size['ratio']:.2f} times what Larq counts."
    )
    for part, state in record["real_valued_layers"].items():
        common.say(f"{part} layers: {state}")
    for kernels, equal in audit["equal_inputs"].items():
        common.say(f"equal inputs, {kernels} kernels: {equal['max']:.2g} at most.")
    for name, value in audit["end_to_end"].items():
        common.say(f"{name}: {value:.4g}")
    if audit["flips"]:
        common.say(f"flipped signs: {audit['flips']['mean_share']:.2g} of all, in the mean of the layers.")
    agreement = audit["end_to_end"].get("top1_agreement", 1.0)
    if agreement < export.AGREEMENT:
        common.say(
            f"File and Keras choose the same class for {agreement:.1%} of the images alone: rounding flips signs of a "
            "network whose classes lie so close together. Layer by layer they are equal."
        )


def main() -> int:
    with common.user_errors():
        folder = out_folder()
        export_head.check_flags()
        source = probed.probed()
        encoder = load_encoder(source.folder)
        refuse(encoder)
        images = export_images.load(source, FLAGS.batch_size or 256)
        head = export_head.of_encoder(encoder, source.folder, source.image_size, images.train)
        names = export_head.class_names(source.folder, images.train)
        same_classes = names == images.train.class_names
        if export_head.HEAD.value != "none" and not same_classes:
            common.say("The images have other classes than the classifier, so that its accuracy on them is not told.")
        if FLAGS.random:
            encoder = untrained(encoder, images.train, source.image_size, FLAGS.seed)
        known = None
        if export_head.needs_features():
            classes = images.train.class_count()
            known = images.features(encoder, images.train)
            head = export_head.train(known, images.features(encoder, images.test), classes, encoder, FLAGS.seed)
        product = export.make_product(encoder, source.image_size, head, _PIXELS.value, _ALLOW_FLOAT.value)
        audited = images.audit_images(_AUDIT.value, images.bank(encoder, known), with_labels=same_classes)
        record = export.write_export(
            folder,
            encoder,
            product,
            audited,
            names,
            export_card.facts(source),
            _TWIN.value,
            _SAVED_MODEL.value,
            _INT8.value,
        )
    show(record)
    common.say(f"{folder}: model.tflite, export.json, model_card.md.")
    return 0


if __name__ == "__main__":
    common.run(main)
