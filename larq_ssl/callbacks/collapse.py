"""Says so, once and loudly, when a run has collapsed."""

import logging

import tensorflow as tf

_log = logging.getLogger(__name__)


class CollapseWarning(tf.keras.callbacks.Callback):
    """Warns once for each sign of collapse that an epoch's metrics show.

    Looks at `embedding_std` (all images get the same features), `embedding_rank` (features fill few dimensions;
    from `OnlineKNN`) and `class_usage` (all images fall into one class of a joint classifier).

    # Arguments
        least_std: Below this the embedding counts as constant; independent directions have 1.
        least_rank: Below this effective rank the embedding counts as collapsed.
        least_usage: Below this many used classes the classifier counts as constant.
    """

    def __init__(self, least_std: float = 0.05, least_rank: float = 1.5, least_usage: float = 1.5):
        super().__init__()
        self._least = {"embedding_std": least_std, "embedding_rank": least_rank, "class_usage": least_usage}
        self.warned: set[str] = set()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        for name, least in self._least.items():
            value = (logs or {}).get(name)
            if value is not None and value < least and name not in self.warned:
                self.warned.add(name)
                _log.warning(
                    "THE TRAINING HAS PROBABLY COLLAPSED: after epoch %d %s is %.4f (below %g). The features of "
                    "different images are nearly the same; a lower learning rate or another balance may help.",
                    epoch + 1,
                    name,
                    value,
                    least,
                )
