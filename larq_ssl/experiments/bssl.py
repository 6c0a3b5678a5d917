"""BSSL: `python -m larq_ssl.experiments.bssl --stage=1`, then `--stage=2`."""

import functools

from absl import flags

from larq_ssl import models
from larq_ssl.experiments import common, stages, teacher_arithmetic, teachers, training, training_data, training_flags
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.methods.bssl import BSSL, FEATURE_LOSSES, PRESETS, default_heads, resolve_preset
from larq_ssl.models.folder import encoder_hash, load_encoder
from larq_ssl.schedules import Balance

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(training_flags)
flags.adopt_module_key_flags(teachers)

_PRESET = flags.DEFINE_enum(
    "preset",
    "paper",
    list(PRESETS),
    "What the paper says, or what its code was written to do (on its own network, --encoder=reactnet_a_burn).",
)
_CLASSES = flags.DEFINE_integer("classes", 2000, "Outputs of the two classifiers.", 2)
_HIDDEN = flags.DEFINE_integer("hidden_dim", 2000, "Hidden units of the two classifiers.", 1)
_TEMPERATURE = flags.DEFINE_float("temperature", 0.2, "Of the classifiers' softmax.", 1e-6)
_FEATURE_LOSS = flags.DEFINE_enum("feature_loss", "cosine", FEATURE_LOSSES, "Distance between features.")
_BALANCE = flags.DEFINE_enum("balance", "cosine", ["cosine", "constant", "step"], "How lambda falls.")
_BALANCE_START = flags.DEFINE_float("balance_start", None, "Lambda at the start, instead of the paper's.", 0, 1)
_BALANCE_END = flags.DEFINE_float("balance_end", None, "Lambda at the end, instead of the paper's.", 0, 1)
_BALANCE_INTERVAL = flags.DEFINE_integer("balance_interval", 1, "Steps between two changes of lambda.", 1)
_VIEWS = flags.DEFINE_integer("num_views", 2, "2: crosswise; 1: teacher and student see the same view.", 1, 2)
_TRAIN_HEAD = flags.DEFINE_bool("train_teacher_head", None, "Train the teacher's classifier; by default the preset's.")
_SOURCE = flags.DEFINE_enum(
    "feature_source", None, ["features", "logits"], "What the feature loss compares; by default the preset's."
)
_SCALE = flags.DEFINE_float("feature_scale", None, "Factor of the cosine distance; by default the preset's.", 1e-6)
_TEACHER_BN = flags.DEFINE_enum(
    "teacher_batch_norm", None, ["eval", "train"], "Statistics of the teacher; by default the preset's."
)
_INHERIT_HEAD = flags.DEFINE_bool(
    "inherit_teacher_head", True, "Stage 2 goes on with the teacher's classifier of stage 1."
)

_LOSS_FLAGS = (
    "preset classes hidden_dim temperature feature_loss num_views train_teacher_head feature_source feature_scale "
    "teacher_batch_norm"
).split()

FLAGS.set_default("encoder", "reactnet_a")
FLAGS.set_default("views", "bssl")
FLAGS.set_default("optimizer", "adam")
FLAGS.set_default("lr", 3e-4)
FLAGS.set_default("schedule", "epoch_cosine")


def prepare(run: RunFolder) -> training.Job:
    """Checks the flags, finds teacher and stage 1, and loads the images."""
    stages.require_stage()
    resolve_preset(
        _PRESET.value,
        train_teacher_head=_TRAIN_HEAD.value,
        feature_source=_SOURCE.value,
        feature_scale=_SCALE.value,
        teacher_batch_norm=_TEACHER_BN.value,
    )
    before = stages.stage1_run(run)
    # What is missing is told before what takes long: images before a teacher that has yet to be trained.
    named = teachers.named_teacher(before)
    data = training_data.load_data(FLAGS.views, _VIEWS.value)
    teacher_folder = named or teachers.digits_teacher()
    teacher = load_encoder(teacher_folder)
    inputs = {"teacher": encoder_hash(teacher)}
    teachers.refuse_another(before, teacher_folder, inputs)
    if before is not None:
        stages.warn_of_other(before, _LOSS_FLAGS)
        inputs["stage 1"] = before.results()["encoders"]["student"]
    balance = Balance(
        data.total_steps, _BALANCE_START.value, _BALANCE_END.value, _BALANCE.value, _BALANCE_INTERVAL.value
    )

    def make() -> BSSL:
        # Loaded anew: variables must be made in the scope of the strategy.
        method = build(teacher_arithmetic.load(teacher_folder), balance, before)
        if before is not None:
            stages.inherit(method, before, leave=() if _INHERIT_HEAD.value else ("teacher_head",))
        return method

    return training.Job(
        data,
        make,
        ("loss", "kl", "feature", "embedding_std"),
        inputs=inputs,
        licences=(teachers.licence(teacher_folder),),
        teacher=teacher_folder,
    )


def build(teacher: models.Encoder, balance: Balance, before: RunFolder | None) -> BSSL:
    """The method as the flags describe it."""
    student = stages.student(before)
    source = resolve_preset(_PRESET.value, feature_source=_SOURCE.value).feature_source
    return BSSL(
        teacher=teacher,
        student=student,
        heads=default_heads(teacher, student, source, _CLASSES.value, _HIDDEN.value, FLAGS.strategy != "single"),
        balance=balance,
        preset=_PRESET.value,
        train_teacher_head=_TRAIN_HEAD.value,
        feature_source=_SOURCE.value,
        feature_scale=_SCALE.value,
        teacher_batch_norm=_TEACHER_BN.value,
        feature_loss=_FEATURE_LOSS.value,
        views=_VIEWS.value,
        temperature=_TEMPERATURE.value,
        gradient_clip=FLAGS.gradient_clip,
        accumulate=FLAGS.accumulate,
    )


def main() -> int:
    return training.run_training("bssl", prepare)


if __name__ == "__main__":
    common.run(main, functools.partial(common.digits_recipe, "bssl"))
