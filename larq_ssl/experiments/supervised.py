"""Supervised training: `python -m larq_ssl.experiments.supervised`. A float network by default; `--stage=1|2`: binary.

With `--teacher`, ReActNet's recipe: no label is used, the classifier follows the probabilities of a classifier. Images
with several labels each (`--dataset=voc_folder`) get a sigmoid per class, and are validated by mAP.
"""

import functools

from absl import flags

from larq_ssl.experiments import (
    classification,
    classifying_teachers,
    common,
    label_flags,
    stages,
    teachers,
    training,
    training_flags,
)
from larq_ssl.experiments.classifying_teachers import ClassifyingTeacher
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.distill import Distill
from larq_ssl.methods.supervised import Supervised

FLAGS = flags.FLAGS
for module in (training_flags, label_flags, classification, classifying_teachers):
    flags.adopt_module_key_flags(module)

_SMOOTHING = flags.DEFINE_float("label_smoothing", 0.0, "Share of the target that all classes have alike.", 0, 0.99)

_LOSS_FLAGS = ("label_smoothing", "temperature")

FLAGS.set_default("encoder", "resnet_50")
FLAGS.set_default("views", "crop_flip")
FLAGS.set_default("optimizer", "sgd")
FLAGS.set_default("lr", 0.1)
FLAGS.set_default("weight_decay", 1e-4)
FLAGS.set_default("schedule", "cosine")
FLAGS.set_default("epochs", 90)
FLAGS.set_default("knn_every", 0)


def teacher_of(before: RunFolder | None, images: classification.Labelled) -> ClassifyingTeacher | None:
    """The teacher of `--teacher`, or else that of stage 1.

    # Raises
        ValueError: If it cannot teach these classes, or flags have no meaning with or without it.
    """
    name = FLAGS.teacher or (before.flags().get("teacher") if before is not None else None)
    if name is None:
        for flag in ("temperature", "cache_targets"):
            if FLAGS[flag].value is not None:
                raise ValueError(f"--{flag}={FLAGS[flag].value} has no meaning without --teacher; leave it out.")
        return None
    if _SMOOTHING.value:
        raise ValueError(f"--label_smoothing={_SMOOTHING.value} has no meaning with --teacher: no labels are used.")
    if images.several:
        raise ValueError(
            f"--teacher={name} chooses one class per image, and those of {FLAGS.dataset} have several labels: train "
            "without a teacher."
        )
    teacher = classifying_teachers.find(name, images.classes)
    teachers.refuse_another(before, teacher.encoder, teacher.inputs())
    return teacher


def build(
    classes: int, before: RunFolder | None, teacher: ClassifyingTeacher | None, cached: bool, several: bool = False
) -> Supervised:
    """The method as the flags describe it, of classes of which an image has one or several."""
    student = stages.student(before)
    classifier = classification.classifier(student.feature_dim, classes)
    if teacher is None:
        return classification.method(student, classifier, several=several)
    networks = {} if cached else teacher.networks()
    return Distill(student, classifier, **networks, temperature=FLAGS.temperature or 1.0, **classification.arguments())


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags, finds teacher and stage 1, and loads the images."""
    before = stages.stage1_run(run)
    images = classification.load(several=True)
    teacher = teacher_of(before, images)
    evaluations = classification.validation()
    data, files = classifying_teachers.with_targets(run, images.data, teacher)
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)
        images.warn_of_others(before)

    def make() -> Supervised:
        method = build(images.classes, before, teacher, data.targets is not None, images.several)
        if before is not None:
            stages.inherit(method, before)
        return method

    return training.Job(
        data,
        make,
        ("loss", "accuracy", *(() if teacher is None else ("distillation_kl",)), "embedding_std"),
        evaluations=evaluations,
        inputs={
            **images.inputs,
            **({} if teacher is None else teacher.inputs()),
            **({} if before is None else {"stage 1": before.results()["encoders"]["student"]}),
        },
        licences=() if teacher is None else (teachers.licence(teacher.encoder),),
        teacher=None if teacher is None else teacher.encoder,
        files={**images.files, **files},
        summary=classification.summary("supervised", "labels" if teacher is None else "teacher", images.measures),
    )


def main() -> int:
    label_flags.settle()
    return training.run_training("supervised", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "supervised"))
