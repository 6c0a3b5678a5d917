"""From a folder of images to a file that a device runs: `make edge-demo`.

Pre-trains a binary network in two stages without labels (SimCLR), fine-tunes it with a tenth of the labels, and so does
an untrained one beside it, exports the first to Larq Compute Engine, audits that file against Keras on all test images,
and measures its speed. Each step is a command of its own, which is shown; the same command goes on where it was killed.
By default on scikit-learn's digits, which are written as a folder of PNG files first.
"""

import dataclasses
import pathlib

import numpy as np
from absl import flags
from PIL import Image

from larq_ssl.data.datasets import load_dataset
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.export.choosing import POINTS
from larq_ssl.files import read_json, whole_folder

_OUT = flags.DEFINE_string("out", "runs/edge", "Folder of everything that is made.")
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder with train/ and val/, each with a folder per class, instead of the digits."
)
_EPOCHS = flags.DEFINE_integer("epochs", None, "Of each training, instead of the recipes'.", 1)
_SEED = flags.DEFINE_integer("seed", 0, "Of weights, views, order, and of which images keep their label.", 0, 2**32 - 1)

# More than the test images of the digits: all are looked at.
_AUDIT_IMAGES = 10_000


@dataclasses.dataclass(frozen=True)
class Step:
    """One command, and what it makes.

    # Arguments
        title: What it does.
        command: Name of the command, and its arguments.
        made: File or folder below `--out` that shows that it is done, of a command that does not see that itself.
    """

    title: str
    command: list[str]
    made: str | None = None


def steps(out: pathlib.Path, images: pathlib.Path, seed: int = 0, epochs: int | None = None) -> list[Step]:
    """All commands, in their order.

    # Arguments
        out: Folder of everything that is made.
        images: Folder with `train/` and `val/`.
        seed: Of weights, views, order, and of which images keep their label.
        epochs: Of each training, instead of the recipes'.
    """
    data = ["--dataset=folder", f"--data_dir={images}", f"--seed={seed}"]
    data += [f"--epochs={epochs}"] if epochs is not None else []
    pretrained = f"--run={out / 'stage2'}"
    fine_tune = ["fine_tune", "--recipe=digits/fine_tune", pretrained, *data, f"--label_seed={seed}"]
    exported = out / "exported"
    return [
        Step(
            "Binary activations, without labels",
            ["simclr", "--recipe=digits/simclr_stage1", *data, f"--workdir={out / 'stage1'}"],
        ),
        Step(
            "Binary weights, too",
            ["simclr", "--recipe=digits/simclr_stage2", *data, f"--workdir={out / 'stage2'}"],
        ),
        Step(
            "A tenth of the labels",
            [*fine_tune, f"--workdir={out / 'fine_tuned'}"],
        ),
        Step(
            "The same labels, without pre-training",
            [*fine_tune, "--random", f"--workdir={out / 'untrained'}"],
        ),
        Step(
            "The file, compared with Keras",
            [
                "export",
                f"--run={out / 'fine_tuned'}",
                "--head=classifier",
                "--float_twin",
                f"--audit_images={_AUDIT_IMAGES}",
                f"--out={exported}",
            ],
            "exported",
        ),
        Step(
            "Its speed on this machine",
            ["benchmark", "--what=device", f"--export={exported}", "--seconds=1", f"--out={out / 'speed'}"],
            "speed.md",
        ),
    ]


def take(step: Step, out: pathlib.Path) -> None:
    """Takes a step, or tells that it is done.

    # Raises
        ValueError: If it fails.
    """
    if step.made is not None and (out / step.made).exists():
        _refuse_another_export(out)
        common.say(f"{out / step.made} is there already.")
        return
    code = common.run_command(step.command[0], step.command[1:])
    if code:
        raise ValueError(f"The walk-through stops: {step.command[0]} ended with exit code {code}.")


def _refuse_another_export(out: pathlib.Path) -> None:
    """Raises a `ValueError` if the exported file is of another network than the one that is fine-tuned now."""
    exported = read_json(out / "exported" / "export.json")["encoder_hash"]
    if RunFolder(out / "fine_tuned").results()["encoders"]["student"] != exported:
        raise ValueError(f"{out / 'exported'} is of another training: move it and {out / 'speed.md'} aside.")


def write_digits(folder: pathlib.Path) -> None:
    """Writes scikit-learn's digits as PNG files: `train/` and `val/`, each with a folder per class."""
    with whole_folder(folder) as unfinished:
        for split in ("train", "val"):
            digits = load_dataset("digits", split)
            pixels = np.asarray(digits.images)
            for number, label in enumerate(digits.labels()):
                place = unfinished / split / digits.class_names[label]
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels[number]).save(place / f"{number:04}.png")


def result(out: pathlib.Path) -> tuple[str, float]:
    """What came of it as Markdown, and by how much the file's top-1 accuracy differs from Keras's."""
    record = read_json(out / "exported" / "export.json")
    audit = record["audit"]
    agreement, size = audit["end_to_end"], audit["size"]["file_bytes"]
    top1 = agreement["keras_top1"], agreement["file_top1"]
    rows = [
        ("fine-tuned without pre-training, Keras: top 1 in percent", f"{100 * _of_run(out / 'untrained'):.1f}"),
        ("fine-tuned, Keras: top 1 in percent", f"{100 * top1[0]:.1f}"),
        ("the file: top 1 in percent", f"{100 * top1[1]:.1f}"),
        ("images of which both say the same class, in percent", f"{100 * agreement['top1_agreement']:.1f}"),
        ("binary layers that are packed", f"{audit['packed_layers']} of {audit['binary_layers']}"),
        ("the file in KiB", f"{size / 1024:,.0f}"),
        ("its float twin in KiB", f"{record['float_twin_bytes'] / 1024:,.0f}"),
    ]
    lines = ["|   |   |", "| --- | ---: |", *(f"| {name} | {value} |" for name, value in rows)]
    return "\n".join(lines) + "\n", abs(top1[0] - top1[1])


def _of_run(folder: pathlib.Path) -> float:
    metrics = RunFolder(folder).results()["metrics"]
    return next(float(value) for name, value in metrics.items() if name.endswith("/last/top1"))


def main() -> int:
    with common.user_errors():
        common.refuse_no_place("out", _OUT.value)
        out = pathlib.Path(_OUT.value)
        images = pathlib.Path(_DATA_DIR.value) if _DATA_DIR.value else out / "images"
        if _DATA_DIR.value is None and not images.is_dir():
            write_digits(images)
        todo = steps(out, images, _SEED.value, _EPOCHS.value)
        for number, step in enumerate(todo, 1):
            common.say(f"\n[{number} of {len(todo)}] {step.title}")
            take(step, out)
        text, difference = result(out)
    exported = out / "exported"
    common.say(f"\n{text}\n{(out / 'speed.md').read_text()}")
    common.say(f"How to use {exported / 'model.tflite'}, and what it is: {exported / 'model_card.md'}.")
    if difference > POINTS:
        return common.fail(f"The file's accuracy differs from Keras's by {100 * difference:.1f} points.", 1)
    return 0


if __name__ == "__main__":
    common.run(main)
