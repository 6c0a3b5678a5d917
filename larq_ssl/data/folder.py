"""Images in folders: `train/` and `val/`, flat or with a folder per class."""

import os
import pathlib

import numpy as np

from larq_ssl.data.datasets import ImageDataset, NothingHeldOutError, fingerprint, split_indices

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".gif")


def image_files(folder: pathlib.Path) -> list[str]:
    """Paths of all images below, relative to `folder`, sorted; hidden files and folders left out."""
    found = []
    for path, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if not f.startswith(".")]
        relative = os.path.relpath(path, folder)
        found += [
            os.path.normpath(os.path.join(relative, f))
            for f in files
            if f.lower().endswith(EXTENSIONS) and not f.startswith(".")
        ]
    return sorted(found)


def _class_folders(folder: pathlib.Path) -> tuple[str, ...]:
    return tuple(sorted(e.name for e in os.scandir(folder) if e.is_dir() and not e.name.startswith(".")))


def _val_folder(root: pathlib.Path) -> pathlib.Path | None:
    return next((root / name for name in ("val", "test") if (root / name).is_dir()), None)


def _check_root(data_dir: str | None) -> pathlib.Path:
    if not data_dir:
        raise ValueError("data_dir is not given: dataset 'folder' needs the folder that holds train/ (and val/)")
    root = pathlib.Path(data_dir)
    if not (root / "train").is_dir():
        raise ValueError(f"data_dir is {data_dir!r}: it must be a folder that holds a folder train/ with the images")
    return root


def load_folder(split: str, data_dir: str | None, val_fraction: float, seed: int) -> ImageDataset:
    """See `datasets.load_dataset`.

    The classes are the folders in `train/`, sorted by name; images that lie flat in it have no labels, and neither
    have then those of the other split.
    """
    root = _check_root(data_dir)
    val = _val_folder(root)
    if val is not None and val_fraction > 0.0:
        raise ValueError(f"val_fraction is {val_fraction}: it must be 0 where there is a folder {str(val)!r}")
    if split == "val" and val is None and val_fraction == 0.0:
        raise NothingHeldOutError(
            f"val_fraction is 0 and {data_dir!r} has no folder val/ or test/: one of them is needed"
        )
    folder = val if split == "val" and val is not None else root / "train"
    files = image_files(folder)
    if not files:
        raise ValueError(f"data_dir: no image lies in {str(folder)!r} (looked for {', '.join(EXTENSIONS)})")

    names = _class_folders(root / "train")
    labels = _labels(files, names, folder)
    sizes = np.array([(folder / f).stat().st_size for f in files], np.int64)
    dataset = ImageDataset(
        name="folder",
        split=split,
        size=len(files),
        classes=len(names) or None,
        class_names=names,
        fingerprint=fingerprint("folder", "\n".join(files), sizes.tobytes(), labels.tobytes()),
        read=lambda i: ((folder / files[i]).read_bytes(), int(labels[i])),
        targets=labels,
        describe=lambda i: str(folder / files[i]),
        file_name=lambda i: os.path.basename(files[i]),
    )
    if val is None and val_fraction > 0.0:
        count = round(val_fraction * dataset.size)
        if not 0 < count < dataset.size:
            raise ValueError(f"val_fraction is {val_fraction}: of {dataset.size} images that leaves a split empty")
        train_part, val_part = split_indices(labels, count, seed)
        dataset = dataset.subset(val_part if split == "val" else train_part, f"{split} {val_fraction} {seed}")
    return dataset


def _labels(files: list[str], names: tuple[str, ...], folder: pathlib.Path) -> np.ndarray:
    """Number of the first folder of each path; an error where a class is not one of the training classes."""
    if not names:
        return np.full(len(files), -1, np.int64)
    numbers = {name: i for i, name in enumerate(names)}
    labels = []
    for file in files:
        first, _, rest = file.partition(os.sep)
        if not rest:
            raise ValueError(f"{str(folder / file)!r} lies beside class folders: move it into one of them")
        if first not in numbers:
            raise ValueError(f"{str(folder / first)!r} is a class that train/ has not: its classes are {names[:20]}")
        labels.append(numbers[first])
    return np.array(labels, np.int64)
