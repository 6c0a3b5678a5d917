"""Prepared data sets of TensorFlow Datasets, as images by index."""

from typing import Any

_VAL_SPLITS = ("validation", "val", "test")


def _builder(name: str, data_dir: str | None) -> Any:
    # Imported where it is used: it takes seconds, and other data sets do not need it.
    import tensorflow_datasets as tfds

    where = data_dir or tfds.core.constants.DATA_DIR
    advice = f"prepare it with `tfds build {name} --data_dir={where}`, or give another data_dir"
    try:
        builder = tfds.builder(name, data_dir=data_dir)
    except tfds.core.registered.DatasetNotFoundError as error:
        raise ValueError(
            f"dataset is {name!r}: it must be 'digits', 'folder' or a data set of TensorFlow Datasets, "
            f"and none of that name is known or lies prepared in {str(where)!r}"
        ) from error
    if not builder.is_prepared():
        raise ValueError(f"dataset {name!r} is not prepared in {str(where)!r}: {advice}")
    return builder


def _split_name(builder: Any, split: str) -> str | None:
    if split == "train":
        return "train" if "train" in builder.info.splits else None
    return next((s for s in _VAL_SPLITS if s in builder.info.splits), None)
