"""S2-BNN: `python -m larq_ssl.experiments.s2bnn --scheme=guided --stage=1`, then `--stage=2`."""

import pathlib
from collections.abc import Sequence

import tensorflow as tf
from absl import flags

from larq_ssl.experiments import (
    common,
    contrast_flags,
    stages,
    teacher_arithmetic,
    teachers,
    training,
    training_data,
    training_flags,
)
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.s2bnn import S2BNN, SCHEMES
from larq_ssl.models.folder import encoder_hash, load_encoder, load_head

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(contrast_flags)
flags.adopt_module_key_flags(teachers)

_SCHEME = flags.DEFINE_enum(
    "scheme",
    "guided",
    list(SCHEMES),
    "contrastive: MoCo v2 on the binary student. guided: the student's embeddings follow those of a float teacher. "
    "contrastive_guided: both. --weight_decay is by default that of the released commands: 1e-4 for contrastive, 0 "
    "with a teacher, in both stages. (The paper: none or less in stage 1, some in stage 2. The released script without "
    "that flag: 1e-4, but 0 in stage 1 of guided.)",
)
_DISTILLATION_TEMPERATURE = flags.DEFINE_float(
    "distillation_temperature", None, "Of the softmaxes of teacher and student, instead of --temperature.", 1e-6
)

_WEIGHT_DECAY = {"contrastive": 1e-4, "contrastive_guided": 0.0, "guided": 0.0}
_LOSS_FLAGS = ("scheme", "temperature", "distillation_temperature", "embedding_dim", "hidden_dim")

FLAGS.set_default("encoder", "reactnet_a")
FLAGS.set_default("views", "s2bnn")
FLAGS.set_default("optimizer", "adam")
FLAGS.set_default("lr", 3e-4)
FLAGS.set_default("schedule", "linear")


def default_recipe(argv: Sequence[str]) -> str | None:
    """On the digits, the recipe of scheme and stage."""
    return common.digits_recipe(f"s2bnn_{common.argument('scheme', argv) or _SCHEME.default}", argv)


def complete_flags() -> None:
    """Fills in what depends on the scheme, and refuses what the scheme has no use for.

    # Raises
        ValueError: If a flag is given that only another scheme has a use for.
    """
    scheme = _SCHEME.value
    useless = {"guided": contrast_flags.DEFAULTS, "contrastive": ("teacher", "distillation_temperature")}
    for name in useless.get(scheme, ()):
        if FLAGS[name].value is not None:
            raise ValueError(f"--{name}={FLAGS[name].value} has no meaning with --scheme={scheme}; leave it out.")
    defaults = {} if scheme == "guided" else dict(contrast_flags.DEFAULTS)
    if not FLAGS.optimizer.startswith("lars_"):
        defaults["weight_decay"] = _WEIGHT_DECAY[scheme]
    for name, value in defaults.items():
        if FLAGS[name].value is None:
            setattr(FLAGS, name, value)


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags, finds teacher and stage 1, and loads the images."""
    stages.require_stage()
    before = stages.stage1_run(run)
    contrastive, guided = (_SCHEME.value != other for other in ("guided", "contrastive"))
    if contrastive:
        contrast_flags.check_batches()
    # What is missing is told before what takes long: images before a teacher that has yet to be trained.
    named = teachers.named_teacher(before) if guided else None
    data = training_data.load_data(FLAGS.views, num_views=2 if contrastive else 1)
    if contrastive:
        contrast_flags.check_images(data.train.size)
    teacher = (named or teachers.digits_teacher()) if guided else None
    inputs = {}
    if teacher is not None:
        inputs = _fingerprints(teacher)
        teachers.refuse_another(before, teacher, inputs)
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)
        inputs["stage 1"] = before.results()["encoders"]["student"]

    def make() -> S2BNN:
        method = build(teacher, before)
        if before is not None:
            stages.inherit(method, before)
            for queue in method.memories.values():
                contrast_flags.check_queue(queue)
        return method

    return training.Job(
        data,
        make,
        ("loss", *(("contrastive",) if guided else ()), "accuracy", "distillation_kl", "embedding_std"),
        inputs=inputs,
        licences=() if teacher is None else (teachers.licence(teacher),),
        teacher=teacher,
    )


def build(teacher: pathlib.Path | None, before: RunFolder | None) -> S2BNN:
    """The method as the flags describe it, with the teacher and its head from their folders."""
    heads = ("student_head", *(("momentum_head",) if _SCHEME.value != "guided" else ()))
    (student, student_head), *momentum = contrast_flags.networks(before, *heads)
    networks: dict[str, tf.keras.Model] = {}
    for momentum_encoder, momentum_head in momentum:
        networks |= {"momentum_encoder": momentum_encoder, "momentum_head": momentum_head}
    if teacher is not None:
        networks |= {
            "teacher": teacher_arithmetic.load(teacher),
            "teacher_head": load_head(_head_of(teacher), "teacher_head"),
        }
    return S2BNN(
        student,
        student_head,
        _SCHEME.value,
        **networks,
        temperature=FLAGS.temperature,
        distillation_temperature=_DISTILLATION_TEMPERATURE.value,
        gradient_clip=FLAGS.gradient_clip,
        accumulate=FLAGS.accumulate,
        **(contrast_flags.arguments() if momentum else {}),
    )


def _fingerprints(teacher: pathlib.Path) -> dict[str, str]:
    """What the teacher and its head are, which fit the flags."""
    head = _head_of(teacher)
    outputs = load_head(head).output_shape[-1]
    if outputs != FLAGS.embedding_dim:
        raise ValueError(
            f"--embedding_dim must be {outputs}, as the outputs of the teacher's head in {head}, "
            f"got {FLAGS.embedding_dim}."
        )
    return {
        "teacher": encoder_hash(load_encoder(teacher)),
        "teacher head": teachers.fingerprint(head / "weights.npz")[:16],
    }


def _head_of(teacher: pathlib.Path) -> pathlib.Path:
    head = teachers.find_head(teacher)
    if head is None:
        raise ValueError(
            f"The teacher in {teacher} has no projection head, whose embeddings the student is to follow: give the "
            "folder of a MoCo run with --teacher, or the PyTorch checkpoint of one."
        )
    return head


def main() -> int:
    with common.user_errors():
        complete_flags()
    return training.run_training("s2bnn", prepare)


if __name__ == "__main__":
    common.run(main, default_recipe)
