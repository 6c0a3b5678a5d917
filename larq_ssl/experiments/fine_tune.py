"""Fine-tuning with few labels: `python -m larq_ssl.experiments.fine_tune --run=<run folder> --label_fraction=0.01`.

The whole network of a pre-trained run is trained, from `--head_layer` of its projection head on; with
`--freeze_encoder` what comes after the encoder alone. `semi_supervised` runs the sweeps of published protocols. Images
with several labels each (`--dataset=voc_folder`) get a sigmoid per class, and are validated by mAP.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Sequence

import tensorflow as tf
from absl import flags

from larq_ssl import models
from larq_ssl.evaluation import fine_tuning
from larq_ssl.evaluation.untrained import untrained
from larq_ssl.experiments import (
    classification,
    common,
    inherited,
    label_flags,
    stages,
    teachers,
    training,
    training_data,
    training_flags,
)
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.heads import build_head, first_layers
from larq_ssl.methods.supervised import Supervised
from larq_ssl.models import Encoder
from larq_ssl.models.folder import encoder_hash, load_encoder, load_head, read_spec
from larq_ssl.models.transfer import copy_weights

FLAGS = flags.FLAGS
for module in (training_flags, label_flags, classification):
    flags.adopt_module_key_flags(module)

_RUN = flags.DEFINE_string("run", None, "Run folder of the pre-trained network; its images are used by default.")
_ENCODER_DIR = flags.DEFINE_string("encoder_dir", None, "Encoder folder, instead of --run; --dataset names the images.")
_WHICH = flags.DEFINE_enum("which", "student", ["student", "ema"], "Encoder of that run, with its own head.")
_HEAD_LAYER = flags.DEFINE_integer(
    "head_layer",
    None,
    "Layers of the projection head that are kept, 0 for none; by default the preset's (simclr: 1, with all labels 0).",
    0,
)
_PRESET = flags.DEFINE_enum(
    "preset", "simclr", list(fine_tuning.PRESETS), "Whose optimizer, learning rates, epochs and kept layers."
)
_FREEZE = flags.DEFINE_bool(
    "freeze_encoder", False, "Leave the encoder as it is, BatchNorm in inference mode: --lr is that of the classifier."
)
_RANDOM = flags.DEFINE_bool(
    "random", False, "Begin with random weights (BatchNorm calibrated) in the encoder and the head: the baseline."
)
flags.DEFINE_float("label_smoothing", 0.0, "Share of the target that all classes have alike.", 0, 0.99)

FLAGS.set_default("views", "crop_flip")
FLAGS.set_default("sync_batch_norm", True)
FLAGS.set_default("knn_every", 0)


def complete_flags() -> None:
    """Fills in what the preset says.

    # Raises
        ValueError: If its learning rate would be that of another optimizer, or something is asked for that a frozen
            encoder has not.
    """
    typed = None if FLAGS["batch_size"].using_default_value else FLAGS.batch_size
    larger = FLAGS.width > 1 or str(FLAGS.encoder).endswith("_sk")
    preset = fine_tuning.setting(_PRESET.value, label_flags.share(), typed, larger).flags()
    inherited.fill({name: value for name, value in preset.items() if name != "lr"})
    if FLAGS.lr is None and FLAGS.optimizer != preset["optimizer"]:
        raise ValueError(
            f"--lr is missing: --preset={_PRESET.value} has one for --optimizer={preset['optimizer']}, and none for "
            f"{FLAGS.optimizer}."
        )
    inherited.fill({"lr": preset["lr"]})
    if _FREEZE.value:
        if FLAGS.diagnostics_every and not FLAGS["diagnostics_every"].using_default_value:
            raise ValueError(
                f"--diagnostics_every={FLAGS.diagnostics_every} looks at the gradients of the encoder, which has none "
                "with --freeze_encoder: leave one of them out."
            )
        FLAGS.diagnostics_every = 0


def default_recipe(argv: Sequence[str]) -> str | None:
    """The recipe for the digits, unless a preset is typed, whose numbers would not be those of the recipe.

    # Arguments
        argv: The command line, before any parsing.
    """
    unknown = common.argument("encoder_dir", argv) is not None and common.argument("dataset", argv) is None
    if unknown or common.argument("preset", argv) is not None:
        return None
    return inherited.digits_recipe("fine_tune", "run", argv)


def pretrained() -> pathlib.Path:
    """The encoder folder of `--run`, whose network and images become those of the flags, or `--encoder_dir`.

    # Raises
        ValueError: If there is none, or flags contradict it.
    """
    for flag in ("stage", "one_stage", "stage1"):
        if FLAGS[flag].value:
            raise ValueError(f"--{flag} has no meaning here: the pre-trained network is trained as it is.")
    if _RUN.value is not None and _ENCODER_DIR.value is not None:
        raise ValueError(f"--run={_RUN.value} and --encoder_dir={_ENCODER_DIR.value} contradict: give one of them.")
    folder = pathlib.Path(_ENCODER_DIR.value) if _ENCODER_DIR.value is not None else _of_run()
    if not folder.is_dir():
        raise ValueError(f"There is no encoder in {folder}.")
    spec = read_spec(folder)
    if spec.classes is not None:
        raise ValueError(f"The encoder in {folder} ends in a classifier: one that gives features is needed.")
    if _ENCODER_DIR.value is not None:
        if FLAGS["dataset"].using_default_value:
            raise ValueError("--dataset is missing: an encoder folder does not tell which images are meant.")
        inherited.fill({"image_size": spec.image_size})
    inherited.same_network(folder)
    return folder


def _of_run() -> pathlib.Path:
    """The encoder of `--run`, whose images are taken over."""
    if _RUN.value is None:
        raise ValueError("--run is missing: the folder of the pre-trained run (or --encoder_dir, that of an encoder).")
    run = RunFolder(_RUN.value)
    if not run.finished:
        raise ValueError(f"--run={run.path} is not a finished run.")
    inherited.images(run)
    return run.encoder(_WHICH.value)


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


def starting_point(folder: pathlib.Path, head: pathlib.Path | None) -> tuple[Encoder, tf.keras.Sequential | None]:
    """Encoder and projection head with the weights of their folders, or with random ones."""
    source, source_head = load_encoder(folder), None if head is None else load_head(head)
    if not _RANDOM.value:
        return source, source_head
    # On all images, of which few may have a label.
    source = untrained(source, training_data.load_train(), FLAGS.image_size, FLAGS.seed)
    return source, None if source_head is None else build_head(source_head.spec)


def build(source: Encoder, source_head: tf.keras.Sequential | None, classes: int, several: bool = False) -> Supervised:
    """The method as the flags describe it, from the weights of these networks.

    # Arguments
        source, source_head: Where the weights are from.
        classes: How many there are.
        several: Whether an image has several of them.
    """
    spec = dataclasses.replace(source.spec, image_size=None, classes=None)
    student = models.build(**dataclasses.asdict(spec), synchronized=stages.synchronized())
    where = "random weights" if _RANDOM.value else (_RUN.value or _ENCODER_DIR.value)
    common.say(f"student starts from {where}: {copy_weights(source, student)}.")
    kept: tf.keras.Sequential | None = None
    if source_head is not None:
        kept = first_layers(source_head, FLAGS.head_layer, "student_head", stages.synchronized())
        common.say(f"student_head starts from {where}: {FLAGS.head_layer} of its layers.")
    dim = student.feature_dim if kept is None else int(kept.output_shape[-1])
    classifier = classification.classifier(dim, classes)
    return classification.method(student, classifier, kept, not _FREEZE.value, several)


def prepare(folder: pathlib.Path, run: RunFolder) -> training.Job:
    """Finds the head and loads the images."""
    head = kept_head(folder)
    images = classification.load(several=True)
    inputs = {"pre-trained": encoder_hash(load_encoder(folder)), **images.inputs}
    if head is not None:
        inputs["pre-trained head"] = teachers.fingerprint(head / "weights.npz")[:16]
    source = starting_point(folder, head)
    return training.Job(
        images.data,
        lambda: build(*source, images.classes, images.several),
        ("loss", "accuracy", "embedding_std"),
        evaluations=classification.validation(),
        inputs=inputs,
        licences=(teachers.licence(folder, "Pre-trained network"),),
        files=images.files,
        summary=classification.summary("fine_tune", _PRESET.value, images.measures),
    )


def main() -> int:
    label_flags.settle()
    with common.user_errors():
        folder = pretrained()
        complete_flags()
    return training.run_training("fine_tune", functools.partial(prepare, folder))


if __name__ == "__main__":
    common.run(main, default_recipe)
