"""Fine-tuning with few labels: `python -m larq_ssl.experiments.fine_tune --run=<run folder> --label_fraction=0.01`.

The whole network of a pre-trained run is trained, from `--head_layer` of its projection head on.
"""

import functools
import pathlib

import tensorflow as tf
from absl import flags

from larq_ssl import models
from larq_ssl.experiments import (
    classification,
    common,
    fine_tune_presets,
    inherited,
    label_flags,
    stages,
    teachers,
    training,
    training_flags,
)
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import first_layers
from larq_ssl.methods.supervised import Supervised
from larq_ssl.models.folder import encoder_hash, load_encoder, load_head, read_spec
from larq_ssl.models.transfer import copy_weights

FLAGS = flags.FLAGS
for module in (training_flags, label_flags, classification):
    flags.adopt_module_key_flags(module)

_RUN = flags.DEFINE_string("run", None, "Run folder of the pre-trained network; its images are used by default.")
_WHICH = flags.DEFINE_enum("which", "student", ["student", "ema"], "Encoder of that run, with its own head.")
_HEAD_LAYER = flags.DEFINE_integer(
    "head_layer",
    None,
    "Layers of the projection head that are kept, 0 for none; by default the preset's (simclr: 1, with all labels 0).",
    0,
)
_PRESET = flags.DEFINE_enum(
    "preset", "simclr", list(fine_tune_presets.PRESETS), "Whose optimizer, learning rates, epochs and kept layers."
)
_SMOOTHING = flags.DEFINE_float("label_smoothing", 0.0, "Share of the target that all classes have alike.", 0, 0.99)

FLAGS.set_default("views", "crop_flip")
FLAGS.set_default("sync_batch_norm", True)
FLAGS.set_default("knn_every", 0)


def complete_flags() -> None:
    """Fills in what the preset says.

    # Raises
        ValueError: If its learning rate would be that of another optimizer.
    """
    inherited.fill({"batch_size": fine_tune_presets.BATCH_SIZES[_PRESET.value]})
    larger = FLAGS.width > 1 or str(FLAGS.encoder).endswith("_sk")
    preset = fine_tune_presets.preset(_PRESET.value, label_flags.share(), FLAGS.batch_size, larger)
    inherited.fill({name: value for name, value in preset.items() if name != "lr"})
    if FLAGS.lr is None and FLAGS.optimizer != preset["optimizer"]:
        raise ValueError(
            f"--lr is missing: --preset={_PRESET.value} has one for --optimizer={preset['optimizer']}, and none for "
            f"{FLAGS.optimizer}."
        )
    inherited.fill({"lr": preset["lr"]})


def pretrained() -> pathlib.Path:
    """The encoder folder of `--run`, whose network and images become those of the flags.

    # Raises
        ValueError: If there is none, or flags contradict it.
    """
    if _RUN.value is None:
        raise ValueError("--run is missing: the folder of the pre-trained run.")
    run = RunFolder(_RUN.value)
    if not run.finished:
        raise ValueError(f"--run={run.path} is not a finished run.")
    folder = run.encoder(_WHICH.value)
    if not folder.is_dir():
        raise ValueError(f"There is no encoder in {folder}.")
    for flag in ("stage", "one_stage", "stage1"):
        if FLAGS[flag].value:
            raise ValueError(f"--{flag} has no meaning here: the network of --run is trained as it is.")
    if read_spec(folder).classes is not None:
        raise ValueError(f"The encoder in {folder} ends in a classifier: one that gives features is needed.")
    inherited.images(run)
    inherited.same_network(folder)
    return folder


def kept_head(folder: pathlib.Path) -> pathlib.Path | None:
    """The folder of the projection head of which layers are kept, `None` if none are.

    # Raises
        ValueError: If there are not so many.
    """
    if not FLAGS.head_layer:
        return None
    head = teachers.find_head(folder)
    if head is None:
        raise ValueError(f"--head_layer={FLAGS.head_layer}, but the run of {folder} has no projection head; give 0.")
    depth = load_head(head).spec.depth
    if FLAGS.head_layer > depth:
        raise ValueError(f"--head_layer must be at most {depth}, the layers of {head}, got {FLAGS.head_layer}.")
    return head


def build(folder: pathlib.Path, head: pathlib.Path | None, classes: int) -> Supervised:
    """The method as the flags describe it, from the weights of the folders."""
    source = load_encoder(folder)
    spec = source.spec
    student = models.build(
        spec.name,
        None,
        spec.binarization,
        spec.stem,
        spec.width,
        spec.preprocessing,
        rotate_input=spec.rotate_input,
        synchronized=stages.synchronized(),
    )
    common.say(f"student starts from {folder}: {copy_weights(source, student)}.")
    kept: tf.keras.Sequential | None = None
    if head is not None:
        kept = first_layers(load_head(head), FLAGS.head_layer, "student_head", stages.synchronized())
        common.say(f"student_head starts from {head}: {FLAGS.head_layer} of its layers.")
    dim = student.feature_dim if kept is None else int(kept.output_shape[-1])
    classifier = classification.classifier(dim, classes)
    return Supervised(student, classifier, kept, _SMOOTHING.value, **classification.arguments())


def prepare(folder: pathlib.Path, run: RunFolder) -> training.Job:
    """Finds the head and loads the images."""
    head = kept_head(folder)
    images = classification.load()
    inputs = {"pre-trained": encoder_hash(load_encoder(folder)), **images.inputs}
    if head is not None:
        inputs["pre-trained head"] = teachers.fingerprint(head / "weights.npz")[:16]
    return training.Job(
        images.data,
        lambda: build(folder, head, images.classes),
        ("loss", "accuracy", "embedding_std"),
        evaluations=classification.validation(),
        inputs=inputs,
        licences=(teachers.licence(folder, "Pre-trained network"),),
        files=images.files,
        summary=classification.summary("fine_tune", _PRESET.value),
    )


def main() -> int:
    label_flags.settle()
    with common.user_errors():
        folder = pretrained()
        complete_flags()
    return training.run_training("fine_tune", functools.partial(prepare, folder))


if __name__ == "__main__":
    common.run(main, functools.partial(inherited.digits_recipe, "fine_tune", "run"))
