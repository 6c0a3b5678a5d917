"""What is said of arguments that are no numbers of things."""

import numbers
from typing import Any


def check_count(name: str, value: Any) -> None:
    """Refuses what is no whole number of at least 1.

    # Raises
        ValueError: Names the argument.
    """
    if not isinstance(value, numbers.Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"`{name}` must be a whole number of at least 1, got {value!r}.")
