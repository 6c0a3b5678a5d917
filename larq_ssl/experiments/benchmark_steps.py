"""What the benchmark measures of a whole training step: that of a command, as the command itself puts it together."""

import dataclasses
import importlib
import pathlib
import shlex
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf
from absl import flags

from larq_ssl import models
from larq_ssl.data import pipeline
from larq_ssl.data.datasets import load_dataset
from larq_ssl.evaluation.calibrate import calibrate_batch_norm
from larq_ssl.experiments.benchmark_workers import Turn, Variant
from larq_ssl.heads import mlp_head
from larq_ssl.models.folder import save_encoder, save_head

# Of those that learn from a network: it is given to them, with random weights.
_TAUGHT = ("bssl", "s2bnn")
METHODS = (*_TAUGHT, "simclr", "moco", "byol", "infomin", "msbreg", "dino", "swav", "moco_star", "supervised")
"""Commands whose steps can be measured."""

COMPUTES = ("binary_compute", "teacher_compute")
"""Flags of arithmetic."""

PLAIN = "plain layers, float32"
_PLAIN = ("--binary_compute=float32", "--teacher_compute=float32")
DEFAULT = "by default"
_ALONE = "binary convolutions alone in bfloat16"
_VARIANTS = {
    PLAIN: _PLAIN,
    DEFAULT: (),
    _ALONE: ("--binary_compute=bfloat16", "--teacher_compute=float32"),
    "no bfloat16": _PLAIN,
}
_TEACHER, _CALIBRATED = "resnet_50", 16
"""The teacher, and how many images its BatchNorm has seen."""
# Nothing but training; rates so small that the same images for hours change nothing about the numbers.
_ALWAYS = "--epochs=100000 --lr=1e-7 --knn_every=0 --embeddings_every=0 --diagnostics_every=0 --dataset=folder"


@dataclasses.dataclass(frozen=True)
class Asked:
    """Whose step is to be measured, and how large it is.

    # Arguments
        method: One of `METHODS`.
        encoder: Arguments of `larq_ssl.models.build`.
        image_size: Side of its views.
        batch_size: Images per step.
        images: Folder that holds `train/`.
        beside: Where to put the teacher and what runs write.
        more: Further flags of the command, as on a command line.
    """

    method: str
    encoder: Mapping[str, Any]
    image_size: int
    batch_size: int
    images: pathlib.Path
    beside: pathlib.Path
    more: str = ""

    @property
    def title(self) -> str:
        size = f"{self.image_size} px, batch {self.batch_size}"
        return f"{self.method}, {self.encoder['name']}, width {self.encoder['width']:g}, {size}"


@dataclasses.dataclass(frozen=True)
class Step:
    """A training step to be measured.

    # Arguments
        method: One of `METHODS`.
        arguments: Flags of its command.
        folder: Where runs get folders of their own.
    """

    method: str
    arguments: Sequence[str]
    folder: pathlib.Path

    def settings(self, *more: str) -> dict[str, object]:
        """Arguments of `prepare`, with further flags."""
        return {"method": self.method, "arguments": [*self.arguments, *more], "folder": str(self.folder)}


def step(asked: Asked) -> Step:
    """The step of a command and, where it needs one, with a teacher of random weights."""
    arguments = [
        *shlex.split(_ALWAYS),
        f"--data_dir={asked.images}",
        f"--image_size={asked.image_size}",
        f"--batch_size={asked.batch_size}",
        f"--encoder={asked.encoder['name']}",
        *(f"--{name}={asked.encoder[name]}" for name in ("binarization", "stem", "width")),
    ]
    if asked.method in _TAUGHT:
        arguments.append(f"--teacher={_make_teacher(asked)}")
    if asked.method == "supervised":
        arguments.append("--validate_every=0")
    return Step(asked.method, (*arguments, *shlex.split(asked.more)), asked.beside)


def variants(measured: Step) -> list[Variant]:
    """The step with plain layers, which the others are compared with, and in the arithmetics that there are."""
    names = [name for name in _VARIANTS if measured.method in _TAUGHT or name != _ALONE]
    return [Variant(name, prepare, measured.settings(*flags_of(name, measured.method))) for name in names]


def flags_of(variant: str, method: str) -> tuple[str, ...]:
    """The flags of arithmetic of one of `variants`, by its name; of a teacher only where there is one."""
    return tuple(flag for flag in _VARIANTS[variant] if method in _TAUGHT or "teacher" not in flag)


def prepare(method: str, arguments: Sequence[str], folder: str) -> Turn:
    """Turns of `fit` with the pipeline and the callbacks of a run."""
    return _Fitting(Trainer(method, arguments, folder))


class _Fitting:
    """Turns of `fit`."""

    def __init__(self, trainer: "Trainer"):
        self._trainer, self.computes = trainer, trainer.computes

    def __call__(self, steps: int) -> tuple[int, float]:
        return steps * self._trainer.batch_size, self._trainer.fit(steps).seconds


@dataclasses.dataclass(frozen=True)
class Times:
    """Where the seconds of some steps went.

    # Attributes
        seconds: From the end of a first step, which is not counted, to the end of the last.
        callbacks: Of them, in callbacks.
        training: Of them, in the graph of the step, which waits for its images.
    """

    seconds: float
    callbacks: float
    training: float


class Trainer:
    """A command up to its call of `fit`, in a process that has run none before.

    # Arguments
        method: Of `METHODS`.
        arguments: Its flags.
        folder: Where the run gets a folder of its own.
    # Attributes
        method: What is trained.
        batch: A batch of views.
        batch_size: Images per step.
        computes: What the flags of arithmetic ended up as, by their names.
    # Raises
        ValueError: If the command refuses its flags.
    """

    def __init__(self, method: str, arguments: Sequence[str], folder: str):
        # A process that the benchmark starts has imported the benchmark, whose flags have the names of training's.
        _forget_flags()
        # Imported late: they define flags.
        training = importlib.import_module("larq_ssl.experiments.training")
        watching = importlib.import_module("larq_ssl.experiments.watching")
        arithmetic = importlib.import_module("larq_ssl.experiments.arithmetic")
        teacher_arithmetic = importlib.import_module("larq_ssl.experiments.teacher_arithmetic")
        run_folder = importlib.import_module("larq_ssl.experiments.run_folder")
        command = importlib.import_module(f"larq_ssl.experiments.{method}")
        try:
            flags.FLAGS([method, *arguments])
        except flags.Error as error:
            raise ValueError(f"{method} refuses its flags: {error}") from error
        # What some commands do before all else.
        getattr(command, "complete_flags", lambda: None)()
        crew = training.set_up()
        run = run_folder.RunFolder(tempfile.mkdtemp(dir=folder))
        arithmetic.settle(run, crew)
        job = command.prepare(run)
        self.batch_size: int = flags.FLAGS.batch_size
        self.method, self._batches = training.built(job), job.data.batches()
        self.batch = next(iter(self._batches))
        teacher_arithmetic.settle(crew, job.teacher, self.method, self.batch)
        self.computes = {name: flags.FLAGS[name].value for name in COMPUTES if name in flags.FLAGS}
        self._watchers = [
            *job.callbacks,
            *watching.watchers(run, job.data, [self.batch], self.method, {}, job.shown, None),
        ]

    def fit(self, steps: int) -> Times:
        """Trains for so many steps, after one that is not counted."""
        # Of a stream that knows its length, `fit` would skip what the optimizer has already done.
        stream = self._batches.take_while(lambda _: True).take(steps + 1)
        first, last = _Clock(), _Clock()
        output, sys.stdout = sys.stdout, _Silent()  # type: ignore[assignment]
        try:
            self.method.fit(stream, callbacks=[first, *self._watchers, last], verbose=1)
        finally:
            sys.stdout = output
        # A step begins when the last callback has been told so, and ends when the first one has. At the end of the
        # stream one more begins.
        graph = _between(last.begins, first.ends)
        around = _between(first.begins, last.begins) + _between(first.ends, last.ends)
        return Times(last.ends[-1] - last.ends[0], around, graph)


class _Clock(tf.keras.callbacks.Callback):
    """When steps begin and end."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        self.begins: list[float] = []
        self.ends: list[float] = []

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        self.begins.append(time.perf_counter())

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self.ends.append(time.perf_counter())


def _between(before: Sequence[float], after: Sequence[float]) -> float:
    """Seconds in all steps but the first from one to the other."""
    return sum(end - begin for begin, end in zip(before[1:], after[1:], strict=False))


class _Silent:
    """A terminal that nobody looks at: progress bars are part of the work."""

    def write(self, text: str) -> int:
        return len(text)

    def flush(self) -> None:
        pass

    def isatty(self) -> bool:
        return True


def _forget_flags() -> None:
    """Undefines the flags of this process but for those of absl itself."""
    for name in list(flags.FLAGS):
        if not flags.FLAGS.find_module_defining_flag(name, "absl").startswith("absl"):
            delattr(flags.FLAGS, name)


def _make_teacher(asked: Asked) -> pathlib.Path:
    """A ResNet-50 as a run of MoCo leaves it, made once a width; of its training, only BatchNorm knows the images."""
    stem, width = asked.encoder["stem"], asked.encoder["width"]
    folder = asked.beside / f"teacher-{width:g}"
    if not folder.exists():
        teacher = models.build(_TEACHER, binarization="none", stem=stem, width=width)
        images = load_dataset("folder", "train", str(asked.images))
        seen = pipeline.image_batches(images, asked.image_size, _CALIBRATED)
        calibrate_batch_norm(teacher, [batch["image"] for batch in seen.take(1)])
        save_encoder(teacher, folder / "encoders" / "student")
        head = mlp_head("student_head", teacher.feature_dim, [teacher.feature_dim], 128, norm="none")
        save_head(head, folder / "heads" / "student_head")
    return folder
