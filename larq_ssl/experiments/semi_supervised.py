"""Fine-tuning with 1 % or 10 % of the labels: `python -m larq_ssl.experiments.semi_supervised --run=<run folder>`.

Runs the sweep of a published protocol, each run a command `fine_tune`, all with the labels of one `labels.json`, and
reports the best of them: `--protocol=bssl --label_fraction=0.01`. A killed sweep goes on where it was.
"""

from absl import flags

from larq_ssl.data.datasets import ImageDataset
from larq_ssl.data.label_subsets import LabelSubset
from larq_ssl.evaluation import fine_tuning
from larq_ssl.experiments import common, label_flags, probed, sweep, sweep_runs
from larq_ssl.experiments.sweep import Sweep, adapted

FLAGS = flags.FLAGS
for module in (probed, sweep, label_flags):
    flags.adopt_module_key_flags(module)

_PROTOCOL = flags.DEFINE_enum(
    "protocol", "bssl", list(fine_tuning.SEMI_SUPERVISED), "Whose learning rates, epochs and kept layers."
)


def percent(share: float) -> str:
    """A share as part of a name: `1percent`, also where it is that but for a few images."""
    return f"{100 * share:.3g}percent"


def choice(train: ImageDataset) -> LabelSubset | None:
    """Which images keep their label; `None` for all of them, where the data set itself is the choice.

    # Raises
        ValueError: If nothing says which, or flags contradict each other.
    """
    subset = label_flags.chosen(train)
    if subset is None and label_flags.share() == 1:
        raise ValueError(
            "Say which images keep their label, as by --label_fraction=0.01 or 0.1, --labels_per_class or --label_list."
        )
    return subset


def plan() -> Sweep:
    """The sweep that the flags describe.

    # Raises
        ValueError: If they contradict each other or name nothing.
    """
    preset, start = _PROTOCOL.value, probed.probed()
    # Of TFDS's subsets the name tells the share, also where it is that of the run.
    FLAGS.dataset = start.images["dataset"]
    train = start.load("train")
    subset = choice(train)
    labelled = train.size if subset is None else len(subset.ids)
    # What a list is called counts first: of ImageNet-100, that of 1 % holds 1.01 %.
    share = label_flags.share() or round(labelled / train.size, 4)
    runs = fine_tuning.sweep(preset, share, FLAGS.batch_size, start.larger)
    seed = [f"labels{FLAGS.label_seed}"] if FLAGS.label_seed else []
    return Sweep(
        protocol="semi_supervised",
        preset=preset,
        probed=start,
        settings=adapted(runs, labelled, start),
        setting=percent(share),
        labels=subset,
        fingerprints={"data": train.fingerprint, "test": start.load("val").fingerprint},
        folder=start.place("semi_supervised", preset, percent(share), *seed),
    )


def main() -> int:
    with common.user_errors():
        return sweep_runs.run_sweep(plan())


if __name__ == "__main__":
    common.run(main)
