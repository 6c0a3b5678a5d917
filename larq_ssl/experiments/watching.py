"""What watches a training command while it trains: the callbacks that the flags ask for."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import flags

from larq_ssl import callbacks
from larq_ssl.data import pipeline
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.experiments.training_data import Data, load_split
from larq_ssl.methods.base import Batch, SelfSupervisedModel

FLAGS = flags.FLAGS

_KNN_IMAGES = 10_000
_MONITORED_IMAGES = 256
_PROBE_IMAGES = 64
# Of the callbacks; the alignment of projections goes to TensorBoard alone, for want of room.
_SHOWN = (
    *("embedding_rank", "alignment", "uniformity", "projection_rank", "projection_uniformity"),
    *("knn", "val_top1", "val_map"),
)

OnlineKNN = Callable[[tf.keras.Model], tf.keras.callbacks.Callback]
"""Makes the online kNN of an encoder."""


def watchers(
    run: RunFolder,
    data: Data,
    batches: Iterable[Batch],
    method: SelfSupervisedModel,
    logged: Mapping[str, Callable],
    shown: Sequence[str],
    online_knn: OnlineKNN | None,
    evaluations: Sequence[tf.keras.callbacks.Callback] = (),
) -> list[tf.keras.callbacks.Callback]:
    """The callbacks in their order: those that add to an epoch's logs before those that show and keep them.

    # Arguments
        run: Where the metrics go.
        data: What is trained on.
        batches: Its batches from the first step on.
        method: What is trained.
        logged: Schedules whose values are logged at each epoch, by name.
        shown: Metrics for the progress bar; those of the callbacks are added.
        online_knn: Of `online_knn`.
        evaluations: What else is measured at the end of an epoch.
    """
    encoder = method.encoders["student"]
    views = _fixed_views(data, batches)
    probe, places, every = views[:_PROBE_IMAGES, 0], (run.diagnostics_file, run.tensorboard), FLAGS.diagnostics_every
    monitor = callbacks.EmbeddingMonitor
    head = _behind_encoder(method)
    return [
        # First, so that it does not time the others.
        callbacks.EpochRecorder(FLAGS.batch_size),
        *evaluations,
        *([online_knn(encoder)] if online_knn is not None else []),
        *([monitor(encoder, head, views, FLAGS.embeddings_every)] if FLAGS.embeddings_every else []),
        callbacks.SignFlips(encoder.binary_layers if encoder.spec.binarization == "full" else []),
        *([callbacks.Diagnostics(encoder, probe, *places, every)] if every else []),
        callbacks.ScheduleLogger(logged),
        callbacks.CollapseWarning(),
        callbacks.GradientCheck(),
        callbacks.Estimate(data.total_steps, FLAGS.batch_size, common.say),
        callbacks.MetricsFile(run.metrics_file),
        callbacks.TensorBoard(run.tensorboard),
        callbacks.ProgressBar([*shown, *_SHOWN]),
    ]


def _behind_encoder(method: SelfSupervisedModel) -> tf.keras.Model | None:
    """What makes projections of the student's features: its head, of BSSL behind the projector if there is one."""
    parts = [method.networks[name] for name in ("projector", "student_head") if name in method.networks]
    return tf.keras.Sequential(parts) if len(parts) > 1 else next(iter(parts), None)


def _fixed_views(data: Data, batches: Iterable[Batch]) -> np.ndarray:
    """Up to two views of some images, uint8 `[images, views, size, size, 3]`, always the same ones of a run.

    They are those of the first batches, as far as these are of one epoch: a pipeline of their own would give the same
    pixels, but takes as long to be traced as that of training.
    """
    size = FLAGS.batch_size
    count = min(_MONITORED_IMAGES, pipeline.steps_per_epoch(data.train, size) * size)
    parts = [batch["global"][:, :2].numpy() for batch in itertools.islice(batches, -(-count // size))]
    return np.concatenate(parts)[:count]


def online_knn() -> OnlineKNN | None:
    """Makes the online kNN of an encoder, unless it is not wanted or there are no labels."""
    if not FLAGS.knn_every:
        return None
    bank = load_split("train", limit=None)
    if not bank.classes:
        common.say("The images have no labels, so there is no online kNN.")
        return None
    if bank.size > _KNN_IMAGES:
        bank = load_split("train", limit=_KNN_IMAGES)
    try:
        queries = load_split("val")
    except ValueError as error:
        raise ValueError(f"{error}; or train without the online kNN, by --knn_every=0") from error
    if queries.size > _KNN_IMAGES // 5:
        queries = load_split("val", limit=_KNN_IMAGES // 5)
    return lambda encoder: callbacks.OnlineKNN(encoder, bank, queries, FLAGS.image_size, FLAGS.knn_every)
