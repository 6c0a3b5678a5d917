"""A file with one line of JSON per epoch."""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from larq_ssl.files import write_whole


class EpochRows:
    """Keeps `{"epoch": ..., "step": ..., ...}` per epoch; an epoch that is trained again replaces its line.

    # Arguments
        file: The `.jsonl` file; written anew and whole with each epoch.
    """

    def __init__(self, file: str | os.PathLike[str]):
        self._file = pathlib.Path(file)
        self._rows: dict[int, dict[str, Any]] = {}

    def read(self) -> dict[int, dict[str, Any]]:
        """Goes on with what an earlier start of the run wrote; returns it by epoch.

        # Raises
            ValueError: If the file is damaged; names it.
        """
        try:
            lines = self._file.read_text().splitlines() if self._file.is_file() else []
            rows = [json.loads(line) for line in lines]
            self._rows = {int(row["epoch"]): row for row in rows if int(row["step"]) >= 0}
            for value in (value for row in rows for value in row.values()):
                if isinstance(value, str | bool):
                    raise ValueError(f"{value!r} is no number")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(
                f"{self._file} is damaged: not each of its lines is the JSON object of an epoch ({error}). Move it "
                "aside, and the run goes on without the epochs in it."
            ) from error
        return self._rows

    def put(self, epoch: int, step: int, values: Mapping[str, Any]) -> None:
        """Writes the line of an epoch that ended after `step` updates."""
        self._rows[epoch] = {"epoch": epoch, "step": step, **values}
        text = "".join(json.dumps(self._rows[key]) + "\n" for key in sorted(self._rows))
        write_whole(self._file, text, overwrite=True)
