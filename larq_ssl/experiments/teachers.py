"""The frozen float network that a student learns from: found, converted from PyTorch, or trained on the digits."""

import hashlib
import pathlib
from collections.abc import Mapping

from absl import flags

from larq_ssl.experiments import common, imported_run
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import read_object, read_text
from larq_ssl.models.binary_compute import BINARY_COMPUTES

FLAGS = flags.FLAGS

flags.DEFINE_string("teacher", None, "Run folder, encoder folder or PyTorch file of the frozen float teacher.")
flags.DEFINE_enum(
    "teacher_compute",
    "auto",
    BINARY_COMPUTES,
    "Arithmetic of the frozen float encoder: auto takes bfloat16 where it is faster here and leaves the loss of the "
    "first batch as it is, within a thousandth; both are tried once for a run.",
)

_IMPORTED = pathlib.Path("runs/imported")
# The head that an encoder of a run was trained with.
_HEADS = {"student": "student_head", "ema": "momentum_head"}


def named_teacher(before: RunFolder | None) -> pathlib.Path | None:
    """The encoder folder of `--teacher` or of stage 1's; `None` on the digits, which need not name one.

    # Raises
        ValueError: If there is none, with what to do about it.
    """
    name = FLAGS.teacher or (before.flags().get("teacher") if before is not None else None)
    if name is not None:
        return find_teacher(name)
    if FLAGS.dataset == "digits":
        return None
    raise ValueError(
        f"--teacher is missing: the student learns from a float network trained on {FLAGS.dataset}. Train one with "
        f"`python -m larq_ssl.experiments.moco --dataset={FLAGS.dataset} ...` and give its run folder, or give a "
        "PyTorch checkpoint."
    )


def find_teacher(name: str, classifier: bool = False) -> pathlib.Path:
    """The encoder folder that a run folder, an encoder folder or a PyTorch file stands for.

    A file is converted into a folder of its own below `runs/imported`, once.

    # Arguments
        name: Of the folder or file.
        classifier: Whether a file is converted with its classifier.
    # Raises
        ValueError: If it is none of them.
    """
    path = pathlib.Path(name)
    if path.is_file():
        return RunFolder(_imported(path, classifier)).encoder("student")
    for folder in (path, RunFolder(path).encoder("student")):
        if (folder / "encoder.json").is_file():
            return folder
    raise ValueError(f"--teacher={name} is neither a finished run, nor an encoder folder, nor a PyTorch file.")


def find_head(encoder_folder: pathlib.Path) -> pathlib.Path | None:
    """The folder of the projection head that an encoder of a run was trained with; `None` if there is none."""
    if encoder_folder.parent.name != "encoders" or encoder_folder.name not in _HEADS:
        return None
    folder = RunFolder(encoder_folder.parent.parent).head(_HEADS[encoder_folder.name]).parent
    return folder if (folder / "head.json").is_file() else None


def digits_teacher() -> pathlib.Path:
    """The encoder folder of the teacher that larq_ssl trains on the digits itself, now if it is not there yet.

    # Raises
        ValueError: If its training fails.
    """
    run = RunFolder("runs/moco/digits-resnet_18-v2/float")
    if run.finished:
        common.say(f"No --teacher is given: the one in {run.path} is used, trained with --seed={run.flags()['seed']}.")
    else:
        common.say(f"No --teacher is given, so one is trained on the digits first and kept in {run.path}:")
        switches = ["--deterministic"] if FLAGS.deterministic else []
        if common.run_command("moco", [f"--workdir={run.path}", f"--seed={FLAGS.seed}", *switches]):
            raise ValueError(f"The teacher in {run.path} could not be trained.")
    return run.encoder("student")


def refuse_another(before: RunFolder | None, folder: pathlib.Path, fingerprints: Mapping[str, str]) -> None:
    """Refuses a teacher that stage 2 takes over from stage 1 if it has changed in the meantime.

    # Arguments
        before: The run of stage 1, `None` without one.
        folder: Where the teacher lies.
        fingerprints: What it is now, as `inputs` of a run.
    # Raises
        ValueError: If it is not what stage 1 learned from.
    """
    if before is None or FLAGS.teacher is not None:
        return
    known = before.inputs()
    if any(known.get(name) not in (None, value) for name, value in fingerprints.items()):
        raise ValueError(
            f"The teacher in {folder} is not the one of {before.path}: its weights have changed. Name the right one "
            "with --teacher."
        )


def licence(encoder_folder: pathlib.Path, what: str = "Teacher") -> str:
    """A line for the `LICENSES.md` of a run: a network that it used, and what the folder of that recorded."""
    file = RunFolder(encoder_folder.parent.parent).licences_file
    recorded = "Its licence is not recorded."
    if file.is_file():
        lines = (line[2:] for line in read_text(file).splitlines() if line.startswith("- "))
        recorded = "Made of: " + " ".join(lines)
    return f"{what}: {encoder_folder}. {recorded}"


def fingerprint(file: pathlib.Path) -> str:
    """SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        for block in iter(lambda: stream.read(2**20), b""):
            digest.update(block)
    return digest.hexdigest()


def _imported(file: pathlib.Path, classifier: bool = False) -> pathlib.Path:
    """The folder of a converted PyTorch file."""
    digest, name = fingerprint(file), file.name
    for suffix in (".tar", ".pth", ".pt"):
        name = name.removesuffix(suffix)
    if classifier:
        name += "-classifier"
    folders = (_IMPORTED / name, _IMPORTED / f"{name}-{digest[:8]}")
    for folder in folders:
        if not folder.exists():
            common.say(f"{file} is converted into {folder}, once.")
            imported_run.convert(file, folder, classifier=classifier)
            return folder
        if _source_of(folder) == digest:
            common.say(f"{file} was converted earlier, into {folder}.")
            return folder
    raise ValueError(f"{folders[0]} and {folders[1]} hold something else than {file}: move them away.")


def _source_of(folder: pathlib.Path) -> str | None:
    """Fingerprint of the file that a folder was converted from."""
    record = folder / "import.json"
    return read_object(record).get("sha256") if record.is_file() else None
