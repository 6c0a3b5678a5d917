"""Trains a method in a run folder: what all training commands do once their networks are built."""

import contextlib
import dataclasses
import itertools
import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import flags, logging

from larq_ssl import callbacks, schedules
from larq_ssl.callbacks.epoch_rows import EpochRows
from larq_ssl.checkpoints import Checkpoints
from larq_ssl.evaluation import diagnosis, pictures
from larq_ssl.experiments import (
    arithmetic,
    common,
    endings,
    stages,
    teacher_arithmetic,
    training_flags,
    watching,
    workers,
)
from larq_ssl.experiments.resuming import restore
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.experiments.training_data import Data
from larq_ssl.files import Content, write_json, write_whole
from larq_ssl.memories import save_memory
from larq_ssl.methods.base import Batch, SelfSupervisedModel
from larq_ssl.models import folder as model_folder
from larq_ssl.models import profile
from larq_ssl.optimizers import build_optimizer

FLAGS = flags.FLAGS

# The sheet of the patches of a method that has them.
_PATCHES = "patches.png"
_SHEET_IMAGES = 8
_LICENCES = {"digits": "Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, CC BY 4.0"}
_HEADLINES = {"knn": "kNN", "val_top1": "top-1", "val_map": "mAP"}
"""What a run that ends says of its last row."""
_EPOCH_COSINES = {"epoch_cosine": 0, "epoch_cosine_from_1": 1}
"""Offsets of `schedules.EpochCosine`."""
_UNKNOWN_LICENCE = "whose licence is not known here: see where they come from"


def set_up() -> workers.Workers:
    """Seeds, determinism, precision and devices, as the flags say; call it before any network is built."""
    tf.keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.keras.mixed_precision.set_global_policy(FLAGS.precision)
    return workers.join()


def learning_rate(data: Data) -> tf.keras.optimizers.schedules.LearningRateSchedule:
    """The schedule of `--schedule`, with `--lr` as its peak."""
    steps, epochs, peak = data.steps_per_epoch, FLAGS.epochs, FLAGS.lr
    warmup = round(FLAGS.warmup_epochs * steps)
    if FLAGS.schedule in ("linear", "linear_to_zero", "step", "constant") and warmup:
        raise ValueError(f"--warmup_epochs must be 0 with --schedule={FLAGS.schedule}, got {FLAGS.warmup_epochs}.")
    if warmup >= data.total_steps:
        raise ValueError(f"--warmup_epochs must be less than --epochs={epochs}, got {FLAGS.warmup_epochs}.")
    if FLAGS.schedule != "step" and FLAGS.step_factor != FLAGS["step_factor"].default:
        raise ValueError(f"--step_factor={FLAGS.step_factor} needs --schedule=step, got --schedule={FLAGS.schedule}.")
    if FLAGS.schedule == "cosine":
        return schedules.WarmupCosine(peak, FLAGS.min_lr, data.total_steps, warmup, FLAGS.warmup_lr)
    _refuse("warmup_lr", "cosine")
    if FLAGS.schedule in _EPOCH_COSINES:
        if FLAGS.warmup_epochs != int(FLAGS.warmup_epochs):
            raise ValueError(f"--warmup_epochs must be whole with {FLAGS.schedule}, got {FLAGS.warmup_epochs}.")
        offset = _EPOCH_COSINES[FLAGS.schedule]
        return schedules.EpochCosine(peak, epochs, steps, int(FLAGS.warmup_epochs), final=FLAGS.min_lr, offset=offset)
    _refuse("min_lr", "cosine or epoch_cosine")
    if FLAGS.schedule == "simclr":
        # An epoch here is whole batches: what is over is not seen, and so not counted.
        warmup, total = schedules.simclr_steps(steps * FLAGS.batch_size, FLAGS.batch_size, epochs, FLAGS.warmup_epochs)
        return schedules.SimCLRCosine(peak, total, warmup)
    if FLAGS.schedule.startswith("linear"):
        return schedules.LinearDecay(peak, epochs, steps, offset=int(FLAGS.schedule == "linear_to_zero"))
    boundaries = [round(data.total_steps * share) for share in (0.6, 0.8)] if FLAGS.schedule == "step" else []
    return schedules.StepDecay(peak, boundaries, FLAGS.step_factor)


def _refuse(name: str, wanted: str) -> None:
    """Raises a `ValueError` if a flag has a value, of which the schedule has no use."""
    if FLAGS[name].value:
        raise ValueError(f"--{name}={FLAGS[name].value} needs --schedule={wanted}, got --schedule={FLAGS.schedule}.")


def weight_decay(data: Data) -> float | schedules.Schedule | None:
    """The weight decay of the flags, `None` for that of the optimizer."""
    if FLAGS.final_weight_decay is None:
        return FLAGS.weight_decay
    if FLAGS.weight_decay is None:
        raise ValueError(f"--final_weight_decay={FLAGS.final_weight_decay} needs --weight_decay, the first value.")
    return schedules.WarmupCosine(FLAGS.weight_decay, FLAGS.final_weight_decay, data.total_steps)


def optimizer(data: Data) -> tf.keras.optimizers.legacy.Optimizer:
    """The optimizer of `--optimizer`, with loss scaling where float16 needs it."""
    result = build_optimizer(FLAGS.optimizer, learning_rate(data), weight_decay(data))
    if FLAGS.precision == "mixed_float16":
        return tf.keras.mixed_precision.LossScaleOptimizer(result)
    return result


@dataclasses.dataclass(frozen=True)
class Job:
    """What one command trains.

    # Attributes
        data: Images and view policy.
        make: Builds the method; called in the scope of the strategy.
        shown: Metrics for the progress bar; the online kNN is added.
        schedules: Values to log at each epoch, besides the learning rate.
        callbacks: What else happens while the method trains; the first to be called.
        evaluations: What is measured at the end of an epoch; not counted as time of training.
        inputs: Fingerprints of what the run reads besides the images.
        licences: Lines for the run's `LICENSES.md`.
        files: Contents of further files of the run folder, by their name.
        summary: Given the rows of `metrics.jsonl`, what `results.json` is to hold besides the last of them.
        teacher: Folder of the encoder `teacher` among the networks, which is frozen; `None` if there is none.
    """

    data: Data
    make: Callable[[], SelfSupervisedModel]
    shown: tuple[str, ...]
    schedules: Mapping[str, Callable] = dataclasses.field(default_factory=dict)
    callbacks: tuple[tf.keras.callbacks.Callback, ...] = ()
    evaluations: tuple[tf.keras.callbacks.Callback, ...] = ()
    inputs: Mapping[str, str] = dataclasses.field(default_factory=dict)
    licences: tuple[str, ...] = ()
    files: Mapping[str, Content] = dataclasses.field(default_factory=dict)
    summary: Callable[[Sequence[Mapping[str, float]]], Mapping[str, float]] = lambda rows: {}
    teacher: pathlib.Path | None = None


def built(job: Job) -> SelfSupervisedModel:
    """The method of a job with its optimizer, before the first step."""
    method = job.make()
    method.compile(optimizer=optimizer(job.data))
    return method


def run_training(experiment: str, prepare: Callable[[RunFolder], Job]) -> int:
    """Begins a run, goes on with it, or shows its result if it is finished; returns the exit code.

    # Arguments
        experiment: Name of the command.
        prepare: Checks the flags and loads what they name; called only if there is something to train, or if a path
            is not the one with which a finished run began.
    """
    try:
        with contextlib.ExitStack() as stack:
            return _run_training(experiment, prepare, stack)
    except endings.LostWorkerError as error:
        return common.fail(str(error), endings.exit_code(error))


def _run_training(experiment: str, prepare: Callable[[RunFolder], Job], stack: contextlib.ExitStack) -> int:
    """What is opened on the way is closed with the stack."""
    flags_text, stop_at = common.flags_as_text(), endings.deadline()
    several = FLAGS.strategy == "multi_worker"
    with common.user_errors(), endings.told(several):
        run, identity = stages.run_folder(experiment), training_flags.identity(FLAGS)
        crew = set_up()
        stack.enter_context(crew.quiet())
        with crew.as_one():
            if crew.is_chief:
                stack.enter_context(run.open(flags_text, identity, FLAGS.fresh))
        crew.refuse_others("flags", training_flags.of_all_workers(flags_text))
        # As the chief sees it; of paths each worker has its own.
        finished = bool(crew.numbers(int(run.finished and not FLAGS.fresh))[0])
        if finished and not crew.any_of(int(training_flags.names_others(run.flags(), flags_text))):
            return _show_earlier(run, crew)
        computed = arithmetic.settle(run, crew)
        job = crew.chief_first(lambda: prepare(run))
        inputs = {"data": job.data.train.fingerprint, **job.inputs, **computed}
        if finished:
            with crew.as_one():
                run.refuse_other_inputs(inputs)
            return _show_earlier(run, crew)
        online_knn = watching.online_knn()
        with crew.strategy.scope():
            method = built(job)
        # A pipeline takes a while to be traced: a new run is trained on this one.
        batches = job.data.batches()
        first = next(iter(batches))
        callbacks.check_views(first)
        inputs |= teacher_arithmetic.settle(crew, job.teacher, method, first)
        crew.refuse_others("inputs", json.dumps(inputs, sort_keys=True))
        described = None
        if FLAGS.fresh or not run.saved_step():
            # A network that cannot see such images says so before there is a run.
            described = profile.summary_and_cost(method.encoders["student"], FLAGS.image_size)
        with crew.as_one():
            if crew.is_chief:
                run.begin(flags_text, inputs, f"python -m larq_ssl.experiments.{experiment}", FLAGS.fresh)
        mine = stack.enter_context(crew.folder(run))
        checkpoints = Checkpoints(run.checkpoints, method=method, optimizer=method.optimizer)
        done = restore(run, checkpoints)
        crew.refuse_others("checkpoints", str(done))
        if done == 0 and described is not None:
            _record_start(mine, job, first, method, *described)
        looked_at = itertools.chain([first], batches.skip(1))
        watchers = [*job.callbacks, *_watchers(mine, job, looked_at, method, online_knn)]
    begun = f"going on after step {done:,}" if done else "a new run"
    common.say(f"{run.path}: {begun}; {workers.batch_size(crew.strategy)}; {method_size(method)}.")
    try:
        with endings.told(several):
            saving = _saving(mine, job, method, crew, stop_at)
            code = _fit(mine, job, method, crew.batches(job.data, batches, done), saving, watchers)
            crew.part()
            return code
    except endings.ERRORS as error:
        of_own = checkpoints.steps() and not isinstance(error, endings.LostWorkerError)
        kept = f" The last checkpoint in {run.checkpoints} is kept." if of_own else ""
        return common.fail(f"{error}{kept}", endings.exit_code(error))


def _show_earlier(run: RunFolder, crew: workers.Workers) -> int:
    crew.part()
    common.say(f"{run.path}: finished earlier (--fresh begins anew). {run.results_file}:")
    common.say(json.dumps(run.results()["metrics"], indent=2))
    return 0


def _watchers(
    run: RunFolder,
    job: Job,
    batches: Iterable[Batch],
    method: SelfSupervisedModel,
    online_knn: watching.OnlineKNN | None,
) -> list[tf.keras.callbacks.Callback]:
    logged = {"learning_rate": learning_rate(job.data), **job.schedules}
    if FLAGS.final_weight_decay is not None:
        logged["weight_decay"] = weight_decay(job.data)
    return watching.watchers(run, job.data, batches, method, logged, job.shown, online_knn, job.evaluations)


def _saving(
    run: RunFolder, job: Job, method: SelfSupervisedModel, crew: workers.Workers, stop_at: float | None
) -> callbacks.Checkpointing:
    return callbacks.Checkpointing(
        Checkpoints(run.checkpoints, method=method, optimizer=method.optimizer),
        FLAGS.checkpoint_every,
        lambda step, seconds: run.record_progress(step, job.data.total_steps, seconds),
        stop_at,
        crew.any_of,
    )


def _fit(
    run: RunFolder,
    job: Job,
    method: SelfSupervisedModel,
    batches: tf.data.Dataset | tf.distribute.DistributedDataset,
    saving: callbacks.Checkpointing,
    watchers: list[tf.keras.callbacks.Callback],
) -> int:
    started = time.perf_counter()
    method.fit(
        batches,
        epochs=FLAGS.epochs,
        steps_per_epoch=job.data.steps_per_epoch,
        callbacks=[*watchers, saving],
        # A log file gets a line per epoch instead of a bar.
        verbose=1 if sys.stdout.isatty() else 2,
    )
    if saving.interrupted:
        common.say(f"{run.path}: stopped by SIGTERM after saving; the same command goes on.")
        return common.SIGTERM_EXIT
    if saving.out_of_time and method.optimizer.iterations.numpy() < job.data.total_steps:
        common.say(f"{run.path}: stopped by --max_hours after saving; the same command goes on.")
        return common.TIME_EXIT
    _finish(run, job, method, time.perf_counter() - started)
    return 0


def method_size(method: SelfSupervisedModel) -> str:
    """How many variables and parameters the optimizer moves, and which networks are frozen."""
    variables = method.optimized_variables
    count = sum(int(np.prod(variable.shape)) for variable in variables)
    others = [name for name in method.networks if name not in method.optimized]
    frozen = f"; not optimised: {', '.join(others)}" if others else ""
    return f"{', '.join(method.optimized)} learn with {count:,} parameters in {len(variables)} variables{frozen}"


def _record_start(
    run: RunFolder,
    job: Job,
    batch: Mapping[str, tf.Tensor],
    method: SelfSupervisedModel,
    summary: str,
    cost: profile.Cost,
) -> None:
    """Keeps for people what the run looks like at its start."""
    encoder = method.encoders["student"]
    sheet = batch["global"].numpy()[:_SHEET_IMAGES]
    local = batch["local"].numpy()[:_SHEET_IMAGES] if "local" in batch else None
    pictures.view_sheet(run.path / "views.png", sheet, local, overwrite=True)
    if "patches" in batch:
        pictures.view_sheet(run.path / _PATCHES, batch["patches"].numpy()[:_SHEET_IMAGES], overwrite=True)
    write_whole(run.path / "summary.txt", summary, overwrite=True)
    for name, content in job.files.items():
        write_whole(run.path / name, content, overwrite=True)
    licences = (f"Images: {FLAGS.dataset}, {_LICENCES.get(FLAGS.dataset, _UNKNOWN_LICENCE)}.", *job.licences)
    write_whole(run.licences_file, "# Licences\n\n" + "".join(f"- {line}\n" for line in licences), overwrite=True)
    rows = np.concatenate([np.concatenate(list(row), axis=1) for row in sheet], axis=0)
    with tf.summary.create_file_writer(str(run.tensorboard)).as_default():
        tf.summary.image("views", rows[None], step=0, description="Rows are images, columns are views.")
        tf.summary.text("summary", f"```\n{summary}\n```", step=0)
    common.say(
        f"{encoder.spec.name} at {FLAGS.image_size} px: {cost.binary_macs:,} binary and {cost.float_macs:,} other "
        f"MACs, {cost.size_bytes / 1024:,.0f} KiB (layer by layer in {run.path / 'summary.txt'})."
    )


def _finish(run: RunFolder, job: Job, method: SelfSupervisedModel, seconds: float) -> None:
    """Writes the products and, last of all, `results.json`."""
    for name, encoder in method.encoders.items():
        if not run.encoder(name).exists():
            model_folder.save_encoder(encoder, run.encoder(name))
    for name, head in method.heads.items():
        if not run.head(name).parent.exists():
            model_folder.save_head(head, run.head(name).parent)
    for name, memory in method.memories.items():
        if not run.memory(name).exists():
            save_memory(memory, run.memory(name))
    rows = list(EpochRows(run.metrics_file).read().values())
    if rows:
        pictures.loss_curves(run.path / "curves.png", run.metrics_file, overwrite=True)
    else:
        common.say(f"{run.metrics_file} is lost, and the metrics of all epochs with it.")
    patches = [_PATCHES] if (run.path / _PATCHES).is_file() else []
    drawn = [*["curves.png"] * bool(rows), *_diagnose(run), "views.png", *patches]
    last = rows[-1] if rows else {}
    results = {
        "metrics": {name: value for name, value in last.items() if name not in ("epoch", "step")}
        | dict(job.summary(rows) if rows else {}),
        "epochs": FLAGS.epochs,
        "steps": job.data.total_steps,
        "seconds_of_this_process": round(seconds, 1),
        "encoders": {name: model_folder.encoder_hash(encoder) for name, encoder in method.encoders.items()},
    }
    write_json(run.results_file, results)
    shown = {title: last.get(name) for name, title in _HEADLINES.items()}
    accuracies = "".join(f"; {title} {value:.1%}" for title, value in shown.items() if value is not None)
    common.say(f"{run.path}: finished after {results['epochs']} epochs{accuracies}. Pictures: {', '.join(drawn)}.")
    logging.flush()


def _diagnose(run: RunFolder) -> list[str]:
    """Says whether the binary layers learn and draws why; names the picture, if there is anything to show."""
    if not run.diagnostics_file.is_file():
        return []
    history = diagnosis.read_history(run.diagnostics_file)
    if not len(history.epochs):
        return []
    common.say(f"{run.path}: {diagnosis.judge(history).headline}")
    pictures.layer_diagnostics(run.path / "diagnostics.png", run.diagnostics_file, overwrite=True)
    return ["diagnostics.png"]
