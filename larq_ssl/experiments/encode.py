"""Features of images: `python -m larq_ssl.experiments.encode --run=... --images='photos/**/*.jpg' --out=features.npz`.

Of a folder, the files that end in .jpg, .jpeg, .png, .bmp or .gif are taken; the others are counted, and said.

The file is read by `numpy.load`, and is there whole or not at all: `features` float32 `[images, dim]`, `paths`, the
`left_out` that could not be read (they are named, too, and more than `--max_bad_images` of them end the command), and
`settings`, JSON: the encoder's hash, the size of the images, and the code that wrote it.

With `--codes`, `codes` too: the signs of the features, packed into bits (`larq_ssl.evaluation.codes`), and
`code_centre`, where they are taken at: the mean of these features, or that of an earlier file by `--centre_of`. Codes
are to be compared only with codes about the same centre.
"""

import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from absl import flags

from larq_ssl.data.folder import EXTENSIONS
from larq_ssl.evaluation.codes import code_centre, codes
from larq_ssl.evaluation.results import provenance
from larq_ssl.experiments import common
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.files import write_whole
from larq_ssl.inference import FrozenEncoder, load_encoder
from larq_ssl.inference.files import files, of_files, passed_over, printable
from larq_ssl.models.folder import encoder_hash, read_arrays

_RUN = flags.DEFINE_string("run", None, "Run folder whose encoder is used.")
_ENCODER_DIR = flags.DEFINE_string("encoder_dir", None, "Encoder folder, instead of --run.")
_WHICH = flags.DEFINE_enum("which", None, ["student", "ema"], "Encoder of the run; by default the student.")
_IMAGES = flags.DEFINE_multi_string(
    "images", None, "File, folder, or pattern in quotation marks ('photos/**/*.jpg'), once or more."
)
_OUT = flags.DEFINE_string("out", None, "File to be written, .npz.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace the file of --out.")
_IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Side of the images; by default as in the run.", 8, common.LARGEST_IMAGE
)
_BATCH = flags.DEFINE_integer("batch_size", 256, "Images per step.", 1)
_MAX_BAD = flags.DEFINE_float("max_bad_images", 0.001, "Share of the files that may be unreadable.", 0, 1)
_CODES = flags.DEFINE_bool("codes", False, "Also the signs of the features, packed into bits.")
_CENTRE_OF = flags.DEFINE_string("centre_of", None, "Earlier file with codes, about whose centre these are taken.")


def encoder() -> FrozenEncoder:
    """The encoder of the flags."""
    if (_RUN.value is None) == (_ENCODER_DIR.value is None):
        raise ValueError("Give either --run=<run folder> or --encoder_dir=<encoder folder>.")
    if _ENCODER_DIR.value is not None and _WHICH.value is not None:
        raise ValueError(f"--which={_WHICH.value} has no meaning with --encoder_dir, which holds one encoder.")
    if _RUN.value is not None and not RunFolder(pathlib.Path(_RUN.value)).finished:
        raise ValueError(f"--run={_RUN.value} is not a finished run.")
    if _ENCODER_DIR.value is not None and not os.path.isdir(_ENCODER_DIR.value):
        raise ValueError(f"There is no encoder in {_ENCODER_DIR.value}.")
    return load_encoder(_RUN.value or _ENCODER_DIR.value, _WHICH.value, _IMAGE_SIZE.value)


def check_out() -> pathlib.Path:
    """The file to be written, before anything is computed."""
    if _OUT.value is None or not _OUT.value.endswith(".npz"):
        raise ValueError(f"--out must be a file that ends in .npz, got {_OUT.value}.")
    out = pathlib.Path(_OUT.value)
    if out.is_dir():
        raise ValueError(f"--out={out} is a folder; choose the name of a file.")
    if os.path.lexists(out) and not _OVERWRITE.value:
        raise ValueError(f"--out={out} exists already; choose another one, or give --overwrite.")
    common.refuse_no_place("out", _OUT.value, is_file=True)
    return out


def paths(words: list[str]) -> list[pathlib.Path]:
    """The files of the flags, and of the words that a shell made of a pattern without quotation marks; each once."""
    named = [*(_IMAGES.value or ()), *words]
    if not named:
        raise ValueError("--images is missing: a file, a folder, or a pattern such as 'photos/**/*.jpg'.")
    over = sum(passed_over(name) for name in named if os.path.isdir(name))
    if over:
        common.say(f"{over:,} other files of these folders are passed over: images end in {', '.join(EXTENSIONS)}.")
    return list(dict.fromkeys(file for name in named for file in files(name)))


def given_centre(of: FrozenEncoder) -> np.ndarray | None:
    """The centre of an earlier file, if it is asked for."""
    if _CENTRE_OF.value is None:
        return None
    if not _CODES.value:
        raise ValueError(f"--centre_of={_CENTRE_OF.value} has no meaning without --codes.")
    if not os.path.isfile(_CENTRE_OF.value):
        raise ValueError(f"--centre_of={_CENTRE_OF.value} must be a file of features with codes: there is none.")
    try:
        held = read_arrays(_CENTRE_OF.value)
    except ValueError as error:
        raise ValueError(f"--centre_of={_CENTRE_OF.value} is no file of features: {error}") from error
    if "code_centre" not in held:
        raise ValueError(f"--centre_of={_CENTRE_OF.value} has no codes: it was written without --codes.")
    settings, centre = _settings(held), held["code_centre"]
    if settings.get("encoder_hash") != encoder_hash(of.encoder):
        raise ValueError(f"--centre_of={_CENTRE_OF.value} is of another encoder.")
    if settings.get("image_size") != of.image_size:
        raise ValueError(
            f"--centre_of={_CENTRE_OF.value} is of images of {settings.get('image_size')} pixels, and not of "
            f"{of.image_size}."
        )
    if centre.shape != (of.feature_dim,) or centre.dtype.kind != "f" or not np.isfinite(centre).all():
        raise ValueError(
            f"--centre_of={_CENTRE_OF.value} is damaged: `code_centre` must be {of.feature_dim} finite numbers, got "
            f"{centre.dtype} {list(centre.shape)}."
        )
    return centre


def _settings(held: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """The settings in an earlier file."""
    try:
        settings = json.loads(str(held["settings"]))
    except (KeyError, ValueError) as error:
        raise ValueError(f"--centre_of={_CENTRE_OF.value} has no readable `settings`: {error}.") from error
    if not isinstance(settings, dict):
        raise ValueError(f"--centre_of={_CENTRE_OF.value} has no readable `settings`, but {settings!r}.")
    return settings


def main(words: list[str]) -> int:
    with common.user_errors():
        out, found = check_out(), paths(words)
        using = encoder()
        centre, dataset = given_centre(using), of_files(found)
        parts = list(using.encode_batches(dataset, _BATCH.value, common.bar("images"), _MAX_BAD.value))
        if not parts:
            raise ValueError(f"None of the {len(found)} files could be read.")
        numbers, features = (np.concatenate(part) for part in zip(*parts, strict=True))
        left_out = np.setdiff1d(np.arange(len(found)), numbers)
        named = np.array([str(path) for path in found])
        settings = {"encoder_hash": encoder_hash(using.encoder), "image_size": using.image_size, **provenance()}
        arrays = {"features": features, "paths": named[numbers], "left_out": named[left_out]}
        if _CODES.value:
            centre = code_centre(features) if centre is None else centre
            arrays |= {"codes": codes(features, centre), "code_centre": centre}

        def write(stream: BinaryIO) -> None:
            np.savez(stream, **arrays, settings=np.array(json.dumps(settings)))

        write_whole(out, write, _OVERWRITE.value)
    for name in named[left_out]:
        common.say(f"Left out, as it could not be read: {printable(name)}")
    common.say(f"{out}: {features.shape[1]} features of {len(features):,} images, {len(left_out)} left out.")
    return 0


if __name__ == "__main__":
    common.run_on_words(main)
