"""What a long measurement has so far, kept in a file, so that it goes on where it was stopped."""

import hashlib
import os
import pathlib
import warnings

import numpy as np

from larq_ssl import files
from larq_ssl.models.folder import read_arrays

_KEY = "key"


class PartialResults:
    """Arrays by name that are written to a file as they come, whole or not at all.

    # Arguments
        folder: Of the file; `None` keeps them in memory alone.
        name: What the file's name begins with.
        key: All that they depend on: with another key it is another file.
    """

    def __init__(self, folder: str | os.PathLike[str] | None, name: str, key: str) -> None:
        self._key = key
        self._arrays: dict[str, np.ndarray] = {}
        self._path: pathlib.Path | None = None
        if folder is not None:
            digest = hashlib.sha256(key.encode()).hexdigest()[:16]
            self._path = pathlib.Path(folder) / f"{name}-{digest}.npz"
            self._arrays = self._read()

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def add(self, name: str, array: np.ndarray) -> None:
        """Keeps one more array."""
        self._arrays[name] = array
        if self._path is not None:
            arrays = {**self._arrays, _KEY: np.array(self._key)}
            files.write_whole(self._path, lambda file: np.savez(file, **arrays), overwrite=True)

    def _read(self) -> dict[str, np.ndarray]:
        if self._path is None or not self._path.exists():
            return {}
        try:
            arrays = read_arrays(self._path)
            if str(arrays.pop(_KEY, None)) != self._key:
                raise ValueError("it is one of other settings")
        except ValueError as error:
            warnings.warn(f"What {str(self._path)!r} holds is unusable ({error}); it is measured again.", stacklevel=3)
            return {}
        return arrays
