"""What two processes train together in `test_workers`: `python -m tests.methods.team <folder> <case> ...`."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from larq_ssl import distribute
from larq_ssl.methods.base import SelfSupervisedModel
from larq_ssl.models.transfer import named_weights
from larq_ssl.optimizers import SGD
from tests import workers
from tests.methods import tiny

SIZE, STEPS, WORKERS, SECONDS = 8, 5, 2, 1500.0
_PLAIN = {"batch_norm": False, "accumulate": 2}


@dataclasses.dataclass(frozen=True)
class Case:
    """A method, and the batch of each step, which is a function of its number."""

    make: Callable[..., SelfSupervisedModel]
    batch: Callable[[int], Mapping[str, tf.Tensor]]
    arguments: Mapping[str, object]
    binary: str = ""
    """What binary networks compute in, if it has any."""

    def method(self) -> SelfSupervisedModel:
        given = {"synchronized": True, "optimizer": SGD(0.02), **self.arguments}
        with tiny.binary(self.binary) if self.binary else contextlib.nullcontext():
            return self.make(**given)

    def batches(self, steps: range) -> list[dict[str, tf.Tensor]]:
        return [{**self.batch(step)} for step in steps]


def _two_views(step: int) -> dict[str, tf.Tensor]:
    return tiny.batch(step, SIZE)


def _several_sizes(step: int) -> dict[str, tf.Tensor]:
    return tiny.multi_crop_batch(step, SIZE)


def _views_of_pixels(step: int) -> dict[str, tf.Tensor]:
    return tiny.multi_crop_batch(step, SIZE, views=(2, 0), sides=(4, 4))


def _some_labels(step: int) -> dict[str, tf.Tensor]:
    # Not as many on each replica.
    return tiny.one_view_batch(step, SIZE, unlabelled=[0, 2, 5])


def _labels(step: int) -> dict[str, tf.Tensor]:
    return tiny.one_view_batch(step, SIZE)


CASES = {
    "bssl": Case(tiny.bssl, _two_views, {"gradient_clip": 1.0}),
    "bssl in parts": Case(tiny.bssl, _two_views, {"preset": "released", **_PLAIN}),
    "moco": Case(tiny.moco, _two_views, {"momentum": 0.5}),
    "moco, shuffled": Case(tiny.moco, _two_views, {"momentum": 0.5, "batch_norm": False, "batch_norm_groups": 2}),
    "moco_star": Case(tiny.moco_star, _several_sizes, {"momentum": 0.5, "alpha": 0.4, "linear_probe": True}),
    "infomin": Case(tiny.infomin, lambda step: tiny.jigsaw_batch(step, SIZE), {"momentum": 0.5, "jigsaw": True}),
    "s2bnn": Case(tiny.s2bnn, _two_views, {"scheme": "contrastive_guided", "momentum": 0.5}),
    "s2bnn in parts": Case(tiny.s2bnn, _two_views, {"scheme": "guided", **_PLAIN}),
    "dino": Case(tiny.dino, _several_sizes, {"momentum": 0.5, "linear_probe": True}),
    "swav": Case(tiny.swav, _several_sizes, {"queue_size": 16, "alpha": 0.4}),
    "simclr": Case(tiny.simclr, _two_views, {"temperature": 0.5}),
    "simclr with a memory": Case(tiny.simclr, _two_views, {"memory": True, "momentum": 0.5, "temperature": 0.5}),
    "byol": Case(tiny.byol, _views_of_pixels, {"uniformity_weight": 0.5, "momentum": 0.5}),
    "byol in parts": Case(tiny.byol, _views_of_pixels, {"momentum": 0.5, **_PLAIN}),
    "msbreg": Case(tiny.msbreg, _views_of_pixels, {"lambda_s": 0.5, "lambda_b": 2.0, "momentum": 0.5}),
    "msbreg in parts": Case(tiny.msbreg, _views_of_pixels, {"lambda_s": 0.0, "momentum": 0.5, **_PLAIN}),
    "supervised": Case(tiny.supervised, _some_labels, {"label_smoothing": 0.1}),
    "supervised in parts": Case(tiny.supervised, _labels, _PLAIN),
    "multi_label": Case(tiny.multi_label, lambda step: tiny.several_batch(step, SIZE), {}),
    "multi_label in parts": Case(tiny.multi_label, lambda step: tiny.several_batch(step, SIZE), _PLAIN),
    "distill": Case(tiny.distill, _some_labels, {"alpha": 0.4, "temperature": 0.5}),
    "distill in parts": Case(tiny.distill, _labels, {"alpha": 0.4, **_PLAIN}),
}
# Of each method the first one, whose statistics are of the whole batch.
_FIRST = {case.make: name for name, case in reversed(CASES.items())}
BINARY = {
    f"{name}, binary in {compute}": dataclasses.replace(CASES[name], binary=compute)
    for name in _FIRST.values()
    for compute in tiny.NEAR
}
"""The same with binary networks, compared after one step: from then on rounding may flip a sign."""

QUICK = (
    *(name for name in CASES if not name.endswith(" in parts")),
    *("byol in parts", "bssl, binary in float32", "bssl, binary in bfloat16"),
)
"""Those that are trained together by the quick tests: each method, parts of a batch, and a binary network."""
GATHERED = (tf.uint8, tf.bool, tf.bfloat16, tf.float16, tf.float32, tf.int32, tf.int64)


def weights(method: SelfSupervisedModel) -> dict[str, tf.Variable]:
    """All variables of a method that training moves."""
    networks = {
        f"{name}/{key}": one for name, part in method.networks.items() for key, one in named_weights(part).items()
    }
    memories = {f"{name}/{one.name}": one for name, part in method.memories.items() for one in part.weights}
    return {**networks, **memories}


def state(method: SelfSupervisedModel) -> dict[str, np.ndarray]:
    """Copies of them."""
    return {key: weight.numpy() for key, weight in weights(method).items()}


def _data(strategy: tf.distribute.Strategy, batches: list[dict[str, tf.Tensor]]) -> tf.distribute.DistributedDataset:
    """The slices of the batches."""

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        size, first = SIZE // context.num_input_pipelines, context.input_pipeline_id
        mine = slice(first * size, (first + 1) * size)
        images = {key: tf.concat([batch[key][mine] for batch in batches], axis=0) for key in batches[0]}
        return tf.data.Dataset.from_tensor_slices(images).batch(size, drop_remainder=True).repeat()

    return strategy.distribute_datasets_from_function(of_worker)


def _train(strategy: tf.distribute.Strategy, case: Case) -> dict[str, np.ndarray]:
    """The state before, after one step and after all, and the metrics of each step."""
    tf.keras.utils.set_random_seed(0)
    with strategy.scope():
        method = case.method()
    arrays = {f"0/{key}": value for key, value in state(method).items()}
    for first, last in ((0, 1),) if case.binary else ((0, 1), (1, STEPS)):
        data = _data(strategy, case.batches(range(first, last)))
        history = method.fit(data, epochs=last, steps_per_epoch=1, verbose=0).history
        arrays |= {f"metrics {first}/{key}": np.array(values) for key, values in history.items()}
        arrays |= {f"{last}/{key}": value for key, value in state(method).items()}
    return arrays


def _gathered(strategy: tf.distribute.Strategy, index: int) -> dict[str, np.ndarray]:
    """What `all_gather` makes of values of each type that a replica is given, by the names of the types."""

    @tf.function
    def gather(values: tf.Tensor) -> tf.Tensor:
        return strategy.run(distribute.all_gather, args=(values,))

    return {kind.name: tf.cast(gather(tf.cast([index, 1], kind)), tf.float32).numpy() for kind in GATHERED}


def _work(folder: pathlib.Path, names: list[str], index: int) -> None:
    tf.get_logger().setLevel("WARNING")
    strategy = distribute.strategy("multi_worker")
    np.savez(folder / f"gathered {index}.npz", **_gathered(strategy, index))
    for name in names:
        arrays = _train(strategy, {**CASES, **BINARY}[name])
        np.savez(folder / f"{name} {index}.npz", **arrays)


def main() -> int:
    folder, names = pathlib.Path(sys.argv[1]), sys.argv[2:]
    logs = [str(folder / f"worker-{index}.log") for index in range(WORKERS)]
    ends = workers.run(lambda index: _work(folder, names, index), logs, SECONDS)
    print("".join(pathlib.Path(log).read_text()[-3000:] for log in logs), file=sys.stderr)
    return max(abs(end.code) for end in ends)


if __name__ == "__main__":
    sys.exit(main())
