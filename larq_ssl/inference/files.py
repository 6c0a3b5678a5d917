"""Files of images: those that paths, folders and patterns stand for, in one order."""

import glob
import os
import pathlib
from collections.abc import Iterable, Sequence

from larq_ssl.data.datasets import ImageDataset, fingerprint
from larq_ssl.data.folder import EXTENSIONS, image_files

Path = str | os.PathLike[str]


def files(path: Path) -> list[pathlib.Path]:
    """The files that a path or a pattern stands for; of a folder, all images that lie below it.

    Of a folder, images are the files that end in one of `larq_ssl.data.folder.EXTENSIONS` (`.jpg`, `.jpeg`, `.png`,
    `.bmp`, `.gif`) and are not hidden; `passed_over` counts the others. A pattern takes whatever fits it. Both come in
    one order, by the names of the folders and then of the file. Links to nowhere are among them: whoever reads them
    tells so.

    # Raises
        ValueError: If there are none.
    """
    place = pathlib.Path(path)
    if place.is_file():
        return [place]
    if place.is_dir():
        found, what = [place / name for name in image_files(place)], f"holds no images ({', '.join(EXTENSIONS)})"
    else:
        found = [file for name in glob.glob(str(path), recursive=True) if _is_file_or_was(file := pathlib.Path(name))]
        what = "is neither a file nor a folder, and fits no file as a pattern"
    if not found:
        raise ValueError(f"`images` {printable(path)!r} {what}.")
    return sorted(found, key=lambda file: file.parts)


def passed_over(path: Path) -> int:
    """How many files below a folder are no images by their endings; hidden ones are not counted."""
    count = 0
    for _, folders, names in os.walk(path):
        folders[:] = [name for name in folders if not name.startswith(".")]
        count += sum(not name.startswith(".") and not name.lower().endswith(EXTENSIONS) for name in names)
    return count


def of_files(paths: Sequence[pathlib.Path]) -> ImageDataset:
    """Files as a data set without labels; they are read when their images are."""
    return ImageDataset(
        name="files",
        split="all",
        size=len(paths),
        classes=None,
        class_names=(),
        fingerprint=fingerprint(*map(os.fsencode, paths), *_states(paths)),
        read=lambda i: (paths[i].read_bytes(), -1),
        describe=lambda i: printable(paths[i]),
        file_name=lambda i: paths[i].name,
    )


def printable(path: Path) -> str:
    """A path to be shown: bytes in it that are not UTF-8 are written out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _is_file_or_was(path: pathlib.Path) -> bool:
    return path.is_file() or (path.is_symlink() and not path.exists())


def _states(paths: Iterable[pathlib.Path]) -> Iterable[str]:
    for path in paths:
        try:
            state = path.stat()
            yield f"{state.st_size} {state.st_mtime_ns}"
        except OSError:  # it is counted and named as an image that cannot be read, like a damaged one
            yield "unreadable"
