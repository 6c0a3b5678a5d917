"""Teachers that tell classes apart: fine-tuned, supervised or distilled runs, or a PyTorch classifier."""

import dataclasses
import functools
import hashlib
import pathlib
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from absl import flags

from larq_ssl.data import targets
from larq_ssl.experiments import common, teacher_arithmetic, teachers, training_data
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import Content, read_text
from larq_ssl.methods.supervised import check_chain
from larq_ssl.models.folder import encoder_hash, load_encoder, load_head, read_spec

FLAGS = flags.FLAGS
flags.adopt_module_key_flags(teachers)

flags.DEFINE_float("temperature", None, "Divides the logits of teacher and student.", 1e-6)
flags.DEFINE_bool(
    "cache_targets",
    None,
    "Run the teacher once over all images and keep what it says in the run folder; by default where the views of an "
    "image do not change (--views=evaluation), without which it cannot be done.",
)


@dataclasses.dataclass(frozen=True)
class ClassifyingTeacher:
    """Where the parts of a teacher lie.

    # Arguments
        encoder: Of features, or of logits; then there are no other parts.
        classifier: What makes logits of its features.
        head: Between the two.
    """

    encoder: pathlib.Path
    classifier: pathlib.Path | None = None
    head: pathlib.Path | None = None

    def networks(self) -> dict[str, tf.keras.Model]:
        """The parts, by their names in `larq_ssl.methods.Distill`, in the order in which they follow each other."""
        parts: dict[str, tf.keras.Model] = {"teacher": teacher_arithmetic.load(self.encoder)}
        for name, folder in (("teacher_head", self.head), ("teacher_classifier", self.classifier)):
            if folder is not None:
                parts[name] = load_head(folder, name)
        return parts

    def inputs(self) -> dict[str, str]:
        """Fingerprints of the parts, for `training.Job`."""
        found = {"teacher": encoder_hash(load_encoder(self.encoder))}
        for name, folder in (("teacher head", self.head), ("teacher classifier", self.classifier)):
            if folder is not None:
                found[name] = teachers.fingerprint(folder / "weights.npz")[:16]
        return found


def find(name: str, classes: int) -> ClassifyingTeacher:
    """The teacher that a run folder, an encoder folder or a PyTorch file stands for.

    # Raises
        ValueError: If it is none of them, tells no classes apart, or another number of them.
    """
    teacher = _parts(name, teachers.find_teacher(name, classifier=True))
    networks = teacher.networks()
    check_chain(networks)
    theirs = list(networks.values())[-1].output_shape[-1]
    if theirs != classes:
        raise ValueError(
            f"--teacher={name} tells {theirs} classes apart, the images of {FLAGS.dataset} have {classes}."
        )
    return teacher


def _parts(name: str, encoder: pathlib.Path) -> ClassifyingTeacher:
    if read_spec(encoder).classes is not None:
        return ClassifyingTeacher(encoder)
    run = RunFolder(encoder.parent.parent)
    head, classifier = (run.head(part).parent for part in ("student_head", "classifier"))
    if encoder != run.encoder("student") or not (classifier / "head.json").is_file():
        raise ValueError(
            f"--teacher={name} tells no classes apart, it only gives features: give a run of supervised, fine_tune or "
            "distill, or a PyTorch checkpoint with a classifier."
        )
    return ClassifyingTeacher(encoder, classifier, head if (head / "head.json").is_file() else None)


def with_targets(
    run: RunFolder, data: training_data.Data, teacher: ClassifyingTeacher | None
) -> tuple[training_data.Data, Mapping[str, Content]]:
    """The data with what the teacher says of each image, if it is to be kept, and what a new run has to write for that.

    # Raises
        ValueError: If it is to be kept and the views are random, or what is there is something else.
    """
    fixed = targets.is_fixed(data.policy)
    if FLAGS.cache_targets and not fixed:
        raise ValueError(
            f"--cache_targets needs one view of each image that never changes, such as --views=evaluation, got "
            f"--views={FLAGS.views}, whose views are random."
        )
    if teacher is None or not fixed:
        return data, {}
    # Also where they are not needed: whatever was computed before, a run draws the same numbers for its own networks.
    networks = teacher.networks()
    if FLAGS.cache_targets is False:
        return data, {}
    if run.targets_file.is_file() and not FLAGS.fresh:
        return dataclasses.replace(data, targets=_read(run, data.train.size)), {}
    table = _compute(data, list(networks.values()))
    content = functools.partial(np.save, arr=table, allow_pickle=False)
    # The hash first: a run that was killed between the two computes both anew.
    files: dict[str, Content] = {run.targets_hash_file.name: f"{_sha256(table)}\n", run.targets_file.name: content}
    return dataclasses.replace(data, targets=table), files


def _read(run: RunFolder, images: int) -> np.ndarray:
    """What the run has kept of its teacher.

    # Raises
        ValueError: If it is damaged, or of other images.
    """
    file = run.targets_file
    try:
        table = np.lib.format.open_memmap(file, mode="r")
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{file} is damaged, it cannot be read ({error}); --fresh begins anew.") from error
    if table.shape[:1] != (images,) or table.dtype != np.float32:
        raise ValueError(f"{file} is not of these {images} images; --fresh begins anew.")
    if not run.targets_hash_file.is_file() or read_text(run.targets_hash_file).strip() != _sha256(table):
        raise ValueError(f"{file} is damaged, its SHA-256 is not in {run.targets_hash_file}; --fresh begins anew.")
    return table


def _sha256(table: np.ndarray) -> str:
    """Of shape and values; the table may be larger than the memory."""
    digest = hashlib.sha256(repr(table.shape).encode())
    digest.update(np.ascontiguousarray(table).data)
    return digest.hexdigest()


def _compute(data: training_data.Data, networks: Sequence[tf.keras.Model]) -> np.ndarray:
    @tf.function(reduce_retracing=True)
    def logits(images: tf.Tensor) -> tf.Tensor:
        for network in networks:
            images = network(images, training=False)
        return images

    return targets.compute_targets(
        data.train, data.policy, FLAGS.batch_size, logits, FLAGS.max_bad_images, common.bar("what the teacher says")
    )
