"""Says so, once and loudly, when a run has collapsed."""

import logging

import tensorflow as tf

_log = logging.getLogger(__name__)


_MEANING = {
    "embedding_std": "different images get nearly the same features",
    "embedding_rank": "the features fill hardly more than one dimension",
    "class_usage": "the classifier of the method puts all images into one class, so following it teaches nothing any "
    "more",
}
# How near, relatively, to the value of a collapse a loss has to stay; how long it must, and projections must lie close.
_NEAR, _EPOCHS = 1e-3, 2
_PROJECTIONS = "projection_uniformity"


class CollapseWarning(tf.keras.callbacks.Callback):
    """Warns once for each sign of collapse that an epoch's metrics show.

    A loss that stays at the value that the method names in `collapse_values` for two epochs is one, too, and so are
    projections that lie close together in two looks one after the other: without a BatchNorm in the heads they do at
    the start, and soon leave each other where something is learned.

    # Arguments
        least_std: `embedding_std` below which the embedding counts as constant; independent directions have 1.
        least_rank: `embedding_rank` (from `EmbeddingMonitor`) below which the embedding counts as collapsed.
        least_usage: `class_usage` below which a joint classifier counts as constant.
        most_uniformity: `projection_uniformity` (from `EmbeddingMonitor`, 0 when all projections are one) above which
            projections lie close together.
    """

    def __init__(
        self,
        least_std: float = 0.05,
        least_rank: float = 1.5,
        least_usage: float = 1.5,
        most_uniformity: float = -0.05,
    ):
        super().__init__()
        self._most_uniformity, self._close = most_uniformity, 0
        self._least = {"embedding_std": least_std, "embedding_rank": least_rank, "class_usage": least_usage}
        self.warned: set[str] = set()
        self._stuck: dict[str, int] = {}

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._watch_losses(epoch, logs or {})
        self._watch_projections(epoch, logs or {})
        for name, least in self._least.items():
            value = (logs or {}).get(name)
            if value is not None and value < least and name not in self.warned:
                self.warned.add(name)
                _log.warning(
                    "COLLAPSE after epoch %d: %s is %.4f, below %g; %s.",
                    epoch + 1,
                    name,
                    value,
                    least,
                    _MEANING[name],
                )

    def _watch_projections(self, epoch: int, logs: dict) -> None:
        if _PROJECTIONS not in logs:  # nobody has looked
            return
        self._close = self._close + 1 if logs[_PROJECTIONS] > self._most_uniformity else 0
        if self._close >= _EPOCHS and _PROJECTIONS not in self.warned:
            self.warned.add(_PROJECTIONS)
            _log.warning(
                "COLLAPSE after epoch %d: %s is %.4f, above %g, for the second time; the projections of different "
                "images are nearly one.",
                epoch + 1,
                _PROJECTIONS,
                logs[_PROJECTIONS],
                self._most_uniformity,
            )

    def _watch_losses(self, epoch: int, logs: dict) -> None:
        for name, value in getattr(self.model, "collapse_values", {}).items():
            stuck = name in logs and abs(logs[name] - value) < _NEAR * value
            self._stuck[name] = self._stuck.get(name, 0) + 1 if stuck else 0
            if self._stuck[name] >= _EPOCHS and name not in self.warned:
                self.warned.add(name)
                _log.warning(
                    "COLLAPSE after epoch %d: %s stays at %.4f, where it is if all answers are equally likely for "
                    "every image: nothing is learned.",
                    epoch + 1,
                    name,
                    logs[name],
                )
