"""Files and folders that appear whole or not at all: written beside their place, synced, renamed.

A process killed at any moment leaves the old contents, the new contents, or nothing, never a part. What a
kill can leave behind is a hidden `.<name>.<random>.tmp`, which no reader looks at.
"""

import contextlib
import json
import os
import pathlib
import secrets
import shutil
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

Content = bytes | str | Callable[[BinaryIO], object]


class AlreadyExistsError(FileExistsError, ValueError):
    """Something is in the place to be written to, and nobody asked to overwrite it."""


def write_whole(path: str | os.PathLike[str], content: Content, overwrite: bool = False) -> pathlib.Path:
    """Write a file so that it is never seen half written.

    # Arguments
        path: Where the file is to be. Missing parent folders are made.
        content: Bytes, text (written as UTF-8), or a function that is given the open binary file.
        overwrite: Replace a file that is there; otherwise it is an error.
    # Returns
        The path.
    # Raises
        AlreadyExistsError: The path exists. It is a `FileExistsError` and a `ValueError`.

    ```python
    write_whole("weights.npz", lambda file: np.savez(file, **arrays))
    ```
    """
    path = pathlib.Path(path)
    _refuse_existing(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    try:
        # Not `tempfile`: its files can be read by their owner only, and the rename would keep that.
        with open(temporary, "xb") as file:
            if callable(content):
                content(file)
            else:
                file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        _refuse_existing(path, overwrite)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)
    return path


def write_json(path: str | os.PathLike[str], value: Any, overwrite: bool = False) -> pathlib.Path:
    """Write a value as indented JSON, whole or not at all. NaN and infinities are errors: JSON has none."""
    return write_whole(path, json.dumps(value, indent=2, allow_nan=False) + "\n", overwrite)


def read_text(path: str | os.PathLike[str]) -> str:
    """The text in a file.

    # Raises
        ValueError: If the file holds something else than UTF-8; names it.
    """
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is damaged, or no text: its byte {error.start:,} is not UTF-8.") from error


def read_json(path: str | os.PathLike[str]) -> Any:
    """The value in a file of JSON.

    # Raises
        ValueError: If the file holds no JSON; names it.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, it holds no JSON: {error}.") from error


def read_object(path: str | os.PathLike[str], *keys: str) -> dict[str, Any]:
    """The object in a file of JSON.

    # Arguments
        path: The file.
        keys: Names that it must have.
    # Raises
        ValueError: If the file holds no such object; names it.
    """
    value = read_json(path)
    missing = [key for key in keys if not isinstance(value, dict) or key not in value]
    if missing or not isinstance(value, dict):
        raise ValueError(f"{path} is damaged, it holds no JSON object{f' with {missing[0]!r}' if missing else ''}.")
    return value


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike[str], overwrite: bool = False) -> Iterator[pathlib.Path]:
    """Fill a folder under another name and rename it into place at the end of the `with` block.

    If the block raises, nothing appears and what was written is removed.

    # Arguments
        path: Where the folder is to be. Missing parent folders are made.
        overwrite: Replace what is there. The old folder is renamed aside, then deleted: a kill between the
            two renames leaves it complete under a hidden name.
    # Returns
        A context manager that gives the path of the folder to write into.
    # Raises
        AlreadyExistsError: The path exists. It is a `FileExistsError` and a `ValueError`.

    ```python
    with whole_folder("encoders/student") as folder:
        (folder / "encoder.json").write_text(text)
    ```
    """
    path = pathlib.Path(path)
    _refuse_existing(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        yield temporary
        _sync_tree(temporary)
        _refuse_existing(path, overwrite)
        _rename_folder(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync_folder(path.parent)


def _rename_folder(source: pathlib.Path, target: pathlib.Path) -> None:
    if not target.exists():
        os.rename(source, target)
        return
    aside = _beside(target)
    os.rename(target, aside)
    try:
        os.rename(source, target)
    except OSError:
        os.rename(aside, target)
        raise
    if aside.is_dir():
        shutil.rmtree(aside)
    else:
        aside.unlink()


def _refuse_existing(path: pathlib.Path, overwrite: bool) -> None:
    if not overwrite and os.path.lexists(path):
        raise AlreadyExistsError(f"`path` {str(path)!r} exists already; choose another one, or pass overwrite=True.")


def _beside(path: pathlib.Path) -> pathlib.Path:
    # A rename is atomic only inside one file system, hence not in the system's temporary folder.
    return path.parent / f".{path.name}.{secrets.token_hex(4)}.tmp"


def _sync_tree(folder: pathlib.Path) -> None:
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(pathlib.Path(parent) / name, "rb") as file:
                os.fsync(file.fileno())
        _sync_folder(pathlib.Path(parent))


def _sync_folder(folder: pathlib.Path) -> None:
    # Without this the rename itself can be lost with the power.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        # Some network file systems cannot sync a folder; the rename is atomic there all the same.
        pass
    finally:
        os.close(descriptor)
