"""Transfer to another data set: `python -m larq_ssl.experiments.transfer --run=<run folder> --dataset=cifar100`.

By a published protocol: linear evaluation (`--protocol=bssl`, `s2bnn_linear`, `msbreg`) or fine-tuning with all labels
(`s2bnn_transfer`). Linear evaluation is on features that are extracted once; with `--with_flags=--augmented`, and in a
folder of its own, on new views in each epoch, as published. `--dataset` is one of the data sets of their tables
(`larq_ssl.evaluation.transfer.DATA`), or any other one. What TensorFlow Datasets has not, and any of them if
`--data_dir` holds a folder `train` (of VOC2007: `JPEGImages`), is read from folders of images. Images with several
labels each (`voc/2007`, `voc_folder`) are learned with a sigmoid per class, and measured by mAP.
"""

import pathlib

from absl import flags

from larq_ssl.data.multi_label import MultiLabelDataset, output_count
from larq_ssl.evaluation import fine_tuning, linear
from larq_ssl.evaluation.examples import check_test, measures_of
from larq_ssl.evaluation.results import FILE_NAME, named, read_results, write_results
from larq_ssl.evaluation.transfer import DATA, PROTOCOLS, TransferProtocol
from larq_ssl.experiments import common, probed, sweep, sweep_runs
from larq_ssl.experiments.probed import Probed
from larq_ssl.experiments.sweep import Sweep, adapted, further_flags

FLAGS = flags.FLAGS
for module in (probed, sweep):
    flags.adopt_module_key_flags(module)

_PROTOCOL = flags.DEFINE_enum("protocol", "bssl", list(PROTOCOLS), "Whose, and so whether the encoder is trained, too.")

_FOLDERS = {"folder": "train", "voc_folder": "JPEGImages"}
"""What a folder of images has, by the name of the data set that reads it."""


def images(protocol: TransferProtocol) -> Probed:
    """The encoder, and the images of `--dataset` wherever they lie.

    # Raises
        ValueError: If they lie nowhere.
    """
    name = FLAGS.dataset
    if name is None:
        raise ValueError(f"--dataset is missing: one of {', '.join(DATA)}, or any other data set.")
    data = DATA.get(name)
    if data is None:
        return probed.probed()
    if FLAGS.data_dir is not None and (pathlib.Path(FLAGS.data_dir) / _FOLDERS[data.folder]).is_dir():
        return probed.probed(data.folder, FLAGS.data_dir, name, protocol.image_size)
    if data.tfds is None:
        raise ValueError(
            f"--dataset={name}: TensorFlow Datasets has no {data.title}; give --data_dir, a folder that holds train/ "
            "and val/ or test/, each with a folder per class."
        )
    return probed.probed(data.tfds, FLAGS.data_dir, name, protocol.image_size)


def remark(protocol: TransferProtocol, start: Probed, classes: int) -> None:
    """Says so where a number will not be comparable with a published one."""
    data = DATA.get(start.name)
    if start.name not in protocol.data:
        common.say(f"{protocol.name} is published for {', '.join(protocol.data)}; {start.name} is measured likewise.")
    if data is not None and classes != data.classes:
        common.say(f"Warning: these images have {classes} classes, and {data.title} has {data.classes}.")
    if data is not None and start.image_size != protocol.image_size:
        common.say(f"Warning: at {start.image_size} px; {protocol.name} has {protocol.image_size}.")


def fine_tune(protocol: TransferProtocol, preset: str, start: Probed) -> int:
    """Fine-tunes with all labels."""
    train, test = start.load("train"), start.load("val")
    remark(protocol, start, output_count(train))
    if isinstance(test, MultiLabelDataset):
        check_test(test.presence, test.object_names)
    runs = fine_tuning.sweep(preset, 1.0, FLAGS.batch_size, start.larger)
    plan = Sweep(
        protocol="transfer",
        preset=protocol.name,
        probed=start,
        settings=adapted(runs, train.size, start),
        setting=None,
        labels=None,
        fingerprints={"data": train.fingerprint, "test": test.fingerprint},
        folder=start.place("transfer", protocol.name),
        measures=measures_of(train),
    )
    return sweep_runs.run_sweep(plan)


def linear_command(protocol: TransferProtocol, preset: str, start: Probed, folder: pathlib.Path) -> list[str]:
    """What trains classifiers on the frozen encoder.

    # Arguments
        folder: Of its own result.
    # Raises
        ValueError: If there is no such preset, or `--with_flags` gives what is not free.
    """
    linear.linear_preset(preset)
    epochs = FLAGS.epochs or protocol.epochs.get(start.name)
    given = {"epochs": epochs, "batch_size": FLAGS.batch_size}
    typed = [f"--{flag}={value}" for flag, value in given.items() if value is not None]
    words = [*start.flags(), f"--preset={preset}", *typed, *further_flags()]
    return ["linear", *words, f"--seed={FLAGS.seed}", f"--probe_dir={folder}"]


def evaluate_linear(protocol: TransferProtocol, preset: str, start: Probed) -> int:
    """Trains classifiers on the frozen encoder by the command `linear`, and takes over its result."""
    augmented = ["augmented"] if common.switched_on("augmented", further_flags()) else []
    place = start.place("transfer", protocol.name, *augmented)
    # Beside the result of this command, where the features of the encoder are kept for all probes.
    folder = place.with_name(f"{place.name}-linear")
    command = linear_command(protocol, preset, start, folder)
    remark(protocol, start, output_count(start.load("train")))
    code = common.run_command(command[0], command[1:])
    if code:
        raise ValueError(f"The linear evaluation on {start.name} ended with exit code {code}.")
    result = read_results(folder)
    metrics = {name.split("/", 3)[-1]: value for name, value in result.metrics.items()}
    settings = {**result.settings, "linear_preset": preset, "command": command}
    full = named("transfer", protocol.name, start.name, metrics)
    if not (place / FILE_NAME).is_file() or read_results(place).metrics != full:
        write_results(place, full, settings)
    sweep_runs.tell(place, {part for name in metrics for part in name.split("/") if part.startswith("lr_")})
    return 0


def main() -> int:
    with common.user_errors():
        protocol = PROTOCOLS[_PROTOCOL.value]
        start = images(protocol)
        preset = protocol.linear_preset(start.name)
        if preset is not None:
            return evaluate_linear(protocol, preset, start)
        return fine_tune(protocol, str(protocol.fine_tuning), start)


if __name__ == "__main__":
    common.run(main)
