"""Distillation with unlabelled images: `python -m larq_ssl.experiments.distill --teacher=<fine-tuned run>`.

Into a network of the same architecture or a smaller one, float or, with `--stage=1|2`, binary.
"""

import functools
import math

from absl import flags

from larq_ssl.experiments import (
    classification,
    classifying_teachers,
    common,
    inherited,
    label_flags,
    stages,
    teachers,
    training,
    training_flags,
)
from larq_ssl.experiments.classifying_teachers import ClassifyingTeacher
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.distill import Distill
from larq_ssl.models.folder import read_spec

FLAGS = flags.FLAGS
for module in (training_flags, label_flags, classification, classifying_teachers):
    flags.adopt_module_key_flags(module)

_TEMPERATURES = {"self": 0.1, "big_to_small": 1.0}
_PRESET = flags.DEFINE_enum(
    "preset",
    "big_to_small",
    list(_TEMPERATURES),
    "The student has the architecture of the teacher, which is then the default (--temperature is 0.1), or another one "
    "(1.0).",
)
_ALPHA = flags.DEFINE_float(
    "alpha",
    1.0,
    "Weight of the teacher. Below 1 labels count, too: those that the label flags choose, by default those that the "
    "teacher learned from, itself or by way of its own teacher.",
    1e-6,
    1,
)

_WHICH_LABELS = (
    "for --alpha below 1 say which images have one by --label_fraction (1 for all), --labels_per_class or --label_list"
)

_LOSS_FLAGS = ("preset", "alpha", "temperature")

FLAGS.set_default("views", "crop_flip")
FLAGS.set_default("optimizer", "lars_simclr")
FLAGS.set_default("weight_decay", 1e-4)
FLAGS.set_default("schedule", "simclr")
FLAGS.set_default("epochs", 400)
FLAGS.set_default("batch_size", 4096)
FLAGS.set_default("sync_batch_norm", True)
FLAGS.set_default("knn_every", 0)


def complete_flags() -> None:
    """Fills in what depends on other flags.

    # Raises
        ValueError: If labels are chosen that nobody looks at, or the learning rate is missing.
    """
    if _ALPHA.value == 1 and label_flags.given():
        raise ValueError(f"{label_flags.given()[0]} has no meaning with --alpha=1, by which no labels are used.")
    inherited.fill({"temperature": _TEMPERATURES[_PRESET.value]})
    if FLAGS.optimizer == "lars_simclr":
        inherited.fill({"lr": 0.1 * math.sqrt(FLAGS.batch_size), "warmup_epochs": 0.05 * FLAGS.epochs})
    elif FLAGS.lr is None:
        raise ValueError(f"--lr is missing: there is no default for --optimizer={FLAGS.optimizer}.")


def adopt() -> None:
    """Takes the images over from the run of the teacher, its labels and, for self-distillation, its network.

    # Raises
        ValueError: If there is no teacher, or the student is to be like it and is not.
    """
    FLAGS.teacher = FLAGS.teacher or _teacher_of_stage1()
    if FLAGS.teacher is None:
        raise ValueError("--teacher is missing: a finished run of fine_tune, supervised or distill.")
    folder = teachers.find_teacher(FLAGS.teacher, classifier=True)
    if _PRESET.value == "self":
        inherited.network(folder)
        spec = read_spec(folder)
        if (FLAGS.encoder, FLAGS.width) != (spec.name, spec.width):
            raise ValueError(
                f"--preset=self needs the network of the teacher, --encoder={spec.name} --width={spec.width}, got "
                f"--encoder={FLAGS.encoder} --width={FLAGS.width}."
            )
    if FLAGS.encoder is None:
        raise ValueError("--encoder is missing: the network of the student.")
    run = RunFolder(folder.parent.parent)
    if not run.flags_file.is_file():
        return
    inherited.images(run)
    if _ALPHA.value < 1 and not label_flags.given():
        learned = _labelled_run(run)
        if learned is not None and learned.labels_file.is_file():
            FLAGS.labels = str(learned.path)


def _teacher_of_stage1() -> str | None:
    """The teacher that stage 2 goes on to learn from; `None` for another stage, or where nothing names a stage 1."""
    if FLAGS.stage != 2 or not any((FLAGS.stage1, FLAGS.workdir, FLAGS.encoder)):
        return None
    before = stages.stage1_run(RunFolder(FLAGS.stage1) if FLAGS.stage1 else stages.run_folder("distill"))
    return None if before is None else before.flags().get("teacher")


def _labelled_run(run: RunFolder) -> RunFolder | None:
    """The run that learned from labels: this one, or that of its teacher, or of the teacher's own.

    `None` if that is a network from elsewhere.

    # Raises
        ValueError: If one of them is not where it was.
    """
    while run.flags_file.is_file() and not run.labels_file.is_file() and "teacher" in run.inputs():
        told = run.flags()
        if "teacher" not in told:  # stage 2 has that of its stage 1
            told = RunFolder(told.get("stage1", run.path.parent / "stage1")).flags()
        try:
            run = RunFolder(teachers.find_teacher(told["teacher"], classifier=True).parent.parent)
        except ValueError as error:
            raise ValueError(f"The teacher of {run.path} is not where it was: {_WHICH_LABELS}.") from error
    return run if run.flags_file.is_file() else None


def refuse_more_labels(images: classification.Labelled) -> None:
    """Raises a `ValueError` if all labels would count, and the teacher learned from those of other images."""
    if _ALPHA.value == 1 or images.subset is not None:
        return
    learned = _labelled_run(RunFolder(teachers.find_teacher(FLAGS.teacher, classifier=True).parent.parent))
    if learned is not None and learned.inputs()["data"] != images.data.train.fingerprint:
        raise ValueError(
            f"--teacher={FLAGS.teacher} learned from labels of other images, in {learned.path}: {_WHICH_LABELS}."
        )


def build(classes: int, before: RunFolder | None, teacher: ClassifyingTeacher, cached: bool) -> Distill:
    """The method as the flags describe it."""
    student = stages.student(before)
    return Distill(
        student,
        classification.classifier(student.feature_dim, classes),
        **({} if cached else teacher.networks()),
        temperature=FLAGS.temperature,
        alpha=_ALPHA.value,
        **classification.arguments(),
    )


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags, finds teacher and stage 1, and loads the images."""
    before = stages.stage1_run(run)
    images = classification.load(keep_others=True)
    refuse_more_labels(images)
    teacher = classifying_teachers.find(FLAGS.teacher, images.classes)
    evaluations = classification.validation()
    data, files = classifying_teachers.with_targets(run, images.data, teacher)
    inputs = {**images.inputs, **teacher.inputs()}
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)
        images.warn_of_others(before)
        inputs["stage 1"] = before.results()["encoders"]["student"]

    def make() -> Distill:
        method = build(images.classes, before, teacher, data.targets is not None)
        if before is not None:
            stages.inherit(method, before)
        return method

    return training.Job(
        data,
        make,
        ("loss", "distillation_kl", "agreement", "accuracy", "embedding_std"),
        evaluations=evaluations,
        inputs=inputs,
        licences=(teachers.licence(teacher.encoder),),
        teacher=teacher.encoder,
        files={**images.files, **files},
        summary=classification.summary("distill", _PRESET.value),
    )


def main() -> int:
    label_flags.settle()
    with common.user_errors():
        adopt()
        complete_flags()
    return training.run_training("distill", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(inherited.digits_recipe, "distill", "teacher"))
