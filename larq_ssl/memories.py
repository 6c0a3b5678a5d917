"""What a method remembers from batch to batch, such as a queue of keys, as a file."""

import os

import numpy as np
import tensorflow as tf

from larq_ssl.models.folder import read_arrays, write_arrays


def save_memory(memory: tf.keras.layers.Layer, file: str | os.PathLike[str]) -> None:
    """Writes the variables of a layer, under their own names, to a new `.npz` file.

    # Raises
        ValueError: If the file exists.
    """
    write_arrays({name: variable.numpy() for name, variable in _variables(memory).items()}, file)


def load_memory(memory: tf.keras.layers.Layer, file: str | os.PathLike[str]) -> None:
    """Gives a layer the variables of a file written by `save_memory`, which must fit exactly, or nothing.

    # Raises
        ValueError: If the file is damaged or of another memory; names the first variable that does not fit.
    """
    arrays, variables = read_arrays(file), _variables(memory)
    for name in sorted(arrays.keys() | variables.keys()):
        wanted = _describe(variables[name]) if name in variables else "absent"
        found = _describe(arrays[name]) if name in arrays else "absent"
        if found != wanted:
            raise ValueError(f"{file} does not fit `{memory.name}`: {name} must be {wanted}, not {found}.")
        if not np.isfinite(arrays[name]).all():
            raise ValueError(f"{file} does not fit `{memory.name}`: {name} must be finite.")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _variables(memory: tf.keras.layers.Layer) -> dict[str, tf.Variable]:
    return {variable.name.split("/")[-1].split(":")[0]: variable for variable in memory.weights}


def _describe(array: np.ndarray | tf.Variable) -> str:
    return f"{np.dtype(getattr(array.dtype, 'as_numpy_dtype', array.dtype)).name} {list(array.shape)}"
