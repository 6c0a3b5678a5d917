"""The binary backbone of a detector that is trained, as a file of Larq Compute Engine."""

import os

import numpy as np
from absl import flags
from PIL import Image

from larq_ssl import export
from larq_ssl.evaluation.detection import LEVELS
from larq_ssl.evaluation.detection.truth import DetectionImages
from larq_ssl.experiments import common, detect_flags
from larq_ssl.experiments.run_folder import RunFolder
from larq_ssl.export.maps import write_maps
from larq_ssl.models.folder import load_encoder, read_spec

FLAGS = flags.FLAGS

_AUDITED = 4
_STRIDE = 32
# What the parsers of the Model Garden pad with is the mean of ImageNet.
_MEAN = (124, 116, 104)


def refuse(folder: str | os.PathLike[str]) -> None:
    """Raises a `ValueError` if the encoder of a folder cannot be packed, or Larq Compute Engine is not there."""
    reason = export.refusal(read_spec(folder))
    if reason is not None:
        raise ValueError(f"--export_backbone has nothing to pack: {reason}")
    export.compute_engine()


def write(run: RunFolder, test: DetectionImages) -> None:
    """Writes `backbone/` into the folder of a finished run, audited on some of the test images.

    # Raises
        ValueError: If the file does not pass its audit.
    """
    folder = run.path / "backbone"
    if folder.exists():
        common.say(f"{folder} is there already.")
        return
    height, width = (-(-side // _STRIDE) * _STRIDE for side in detect_flags.settings(1).padded)
    images = np.stack([_fitted(test.pixels(index), height, width) for index in range(min(_AUDITED, test.size))])
    names = [name for level, name in LEVELS.items() if level >= FLAGS.min_level]
    audit = write_maps(folder, load_encoder(run.encoder("student")), images, names)["audit"]
    worst = max(max(errors.values()) for errors in audit["equal_inputs"].values())
    common.say(
        f"{folder}: {audit['packed_layers']} of {audit['binary_layers']} binary layers are packed, "
        f"{audit['file_bytes']:,} bytes; on equal inputs no layer differs from Keras by more than {worst:.2g}."
    )


def _fitted(pixels: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image scaled as a detector sees it, and padded to the right and below."""
    scale = min(FLAGS.image_height / pixels.shape[0], FLAGS.image_width / pixels.shape[1])
    size = round(pixels.shape[1] * scale), round(pixels.shape[0] * scale)
    canvas = Image.new("RGB", (width, height), _MEAN)
    canvas.paste(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR), (0, 0))
    return np.asarray(canvas)
