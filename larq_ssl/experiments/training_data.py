"""The images of a training command, and the views that it makes of them."""

import dataclasses

import numpy as np
import tensorflow as tf
from absl import flags

from larq_ssl.data import datasets, pipeline
from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.targets import with_targets
from larq_ssl.data.views import ViewPolicy
from larq_ssl.experiments import chosen_views

FLAGS = flags.FLAGS


@dataclasses.dataclass(frozen=True)
class Data:
    """The images of a run and how they become batches.

    # Attributes
        targets: What a teacher says of each image, or of several labels which it has, `[images, classes]`, to come with
            the batches.
    """

    train: ImageDataset
    policy: ViewPolicy
    steps_per_epoch: int
    targets: np.ndarray | None = None

    @property
    def total_steps(self) -> int:
        return self.steps_per_epoch * FLAGS.epochs

    def batches(self, start_step: int = 0, num_shards: int = 1, shard: int = 0) -> tf.data.Dataset:
        """The endless stream of batches, or of a slice of each, from the batch of `start_step` on."""
        batches = pipeline.view_batches(
            self.train,
            self.policy,
            FLAGS.batch_size,
            FLAGS.seed,
            start_step,
            num_shards,
            shard,
            max_bad_images=FLAGS.max_bad_images,
            prefetch=FLAGS.prefetch,
            cache_bytes=int(FLAGS.cache * 2**30),
        )
        return batches if self.targets is None else with_targets(batches, self.targets)

    def distributed(self, strategy: tf.distribute.Strategy, start_step: int = 0) -> tf.distribute.DistributedDataset:
        """The same stream for the replicas of several workers, each of which makes its slice of a batch alone."""

        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            batches = self.batches(start_step, context.num_input_pipelines, context.input_pipeline_id)
            of_replica = batches.rebatch(context.get_per_replica_batch_size(FLAGS.batch_size), drop_remainder=True)
            # Otherwise the workers would ask each other in every step whether there is more.
            return of_replica.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

        return strategy.distribute_datasets_from_function(of_worker)


def load_train() -> ImageDataset:
    """The training images of the flags."""
    return load_split("train", limit=FLAGS.max_train_images)


def load_data(policy_name: str, num_views: int | None = None, train: ImageDataset | None = None) -> Data:
    """The training images of the flags, or others, and the view policy, or the first so many views of it."""
    train = load_train() if train is None else train
    policy = chosen_views.policy(policy_name)
    if num_views is not None:
        policy = policy.first(num_views)
    whole = pipeline.steps_per_epoch(train, FLAGS.batch_size)
    if FLAGS.batch_size % FLAGS.accumulate:
        raise ValueError(f"--accumulate must divide --batch_size={FLAGS.batch_size}, got {FLAGS.accumulate}.")
    if FLAGS.steps_per_epoch is not None and FLAGS.steps_per_epoch > whole:
        raise ValueError(f"--steps_per_epoch must be at most {whole} (a whole pass), got {FLAGS.steps_per_epoch}.")
    return Data(train, policy, FLAGS.steps_per_epoch or whole)


def load_split(split: str, limit: int | None = None) -> ImageDataset:
    """A split of the flags' data set."""
    return datasets.load_dataset(
        FLAGS.dataset,
        split,
        FLAGS.data_dir,
        val_fraction=FLAGS.val_fraction,
        seed=0,
        limit=limit,
        classes_list=FLAGS.classes_list,
    )
