"""An encoder in use: what is needed beside the network to get features and classes of images."""

import dataclasses
import json
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from larq_ssl.evaluation.features import Progress, frozen
from larq_ssl.files import whole_folder, write_json
from larq_ssl.heads import HeadSpec, build_head, linear_classifier
from larq_ssl.inference.checks import check_count
from larq_ssl.inference.images import Images, batches, count, image_dataset
from larq_ssl.models.encoder import Encoder, EncoderSpec
from larq_ssl.models.folder import save_encoder, save_head
from larq_ssl.models.registry import build_blank
from larq_ssl.models.transfer import assign_weights, named_weights

CLASSES_FILE = "classes.json"
CLASSIFIER, HEAD = "classifier", "student_head"
"""Folders beside an encoder that `FrozenEncoder.save` writes, and heads of a run of the same names."""

_BATCH = 256


class FrozenEncoder:
    """An encoder that is used and not trained: images of any kind in, features and classes out.

    `larq_ssl.models.Encoder` is the network alone, a Keras model from batches of one size to features. This is the same
    network, `encoder`, with what it takes to use it: the size of the images, and the classifier if there is one.
    Nothing in it changes: what adds a classifier returns another one.

    # Arguments
        encoder: The network.
        image_size: Side of the images that it sees, in pixels.
        classifier: `[batch, dim] -> [batch, classes]`, of features or of what `head` makes of them; `None` if there is
            none, or it is part of the network.
        head: Between the two, or `None`.
        classes: What the classes are called; `None` if only their numbers are known.
    # Raises
        ValueError: If these do not fit together.
    """

    def __init__(
        self,
        encoder: Encoder,
        image_size: int,
        classifier: tf.keras.Sequential | None = None,
        head: tf.keras.Sequential | None = None,
        classes: Sequence[Any] | np.ndarray | None = None,
    ) -> None:
        check_count("image_size", image_size)
        self.encoder = encoder if encoder.spec.image_size is None else encoder.at(image_size)
        self.image_size = image_size
        self._heads = {name: part for name, part in ((HEAD, head), (CLASSIFIER, classifier)) if part is not None}
        dim = self.feature_dim
        for name, part in self._heads.items():
            if part.input_shape[-1] != dim:
                raise ValueError(
                    f"`{name}` takes vectors of length {part.input_shape[-1]}, and is given some of {dim}."
                )
            dim = int(part.output_shape[-1])
        self._class_count = dim if classifier is not None else encoder.spec.classes
        if classes is not None and len(classes) != self._class_count:
            raise ValueError(f"`classes` must be {self._class_count}, one for each output, got {len(classes)}.")
        self._classes = None if classes is None else _names("classes", classes)

    @property
    def feature_dim(self) -> int:
        """Length of the features."""
        return self.encoder.feature_dim

    @property
    def classes(self) -> np.ndarray | None:
        """What `predict` returns, in the order of `predict_proba`: names, or numbers; `None` without a classifier."""
        if self._class_count is None:
            return None
        return np.arange(self._class_count) if self._classes is None else self._classes

    def encode(self, images: Images, batch_size: int = _BATCH, progress: Progress | None = None) -> np.ndarray:
        """Features of images, each seen as probes see it.

        # Arguments
            images: Pixels in 0..255 of any size: uint8 `[images, height, width, 3]` (or 1: grey), or a list of
                `[height, width, 3]` or `[height, width]`; paths: of a file, of a folder (all files below it that
                end in .jpg, .jpeg, .png, .bmp or .gif), a pattern such as `"photos/**/*.jpg"`, or a list of such, or a
                column of a table; a list of images that Pillow has opened, seen as their files are; a
                `larq_ssl.data.ImageDataset`; or a `tf.data.Dataset` of images or batches of them, alone, as
                `(image, label)` or as `{"image": ...}`.
            batch_size: Images per step. It does not alter the result beyond rounding.
            progress: Called with images done and in all, after each batch, where their number is known.
        # Returns
            Float32 array `[images, dim]`, in the order of the images (of a folder or pattern, of their names,
            folder by folder).
        # Raises
            ValueError: If these are no images, or a file is none (it is named: a row would be missing).
        """
        return _joined(self.encode_batches(images, batch_size, progress))

    def encode_batches(
        self,
        images: Images,
        batch_size: int = _BATCH,
        progress: Progress | None = None,
        max_bad_images: float = 0.0,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """As `encode`, batch by batch: numbers of the images int64 `[n]`, and their features.

        # Arguments
            max_bad_images: Share of files that may turn out not to be images: they are left out, and named in the log.
        """
        # A network that ends in classes has its features before them.
        before = next(name for name in ("extra_fc", "pooled") if name in self.encoder.named_outputs)
        output = before if self.encoder.spec.classes else None
        yield from self._batches(images, output, batch_size, progress, max_bad_images)

    def predict(self, images: Images, batch_size: int = _BATCH, progress: Progress | None = None) -> np.ndarray:
        """The most probable class of each image: one of `classes`. Arguments and errors as of `predict_proba`."""
        scores = self.predict_proba(images, batch_size, progress)
        return np.asarray(self.classes)[scores.argmax(axis=1)]

    def predict_proba(self, images: Images, batch_size: int = _BATCH, progress: Progress | None = None) -> np.ndarray:
        """Probabilities of classes, by the softmax of the classifier.

        # Arguments
            images, batch_size, progress: See `encode`.
        # Returns
            Float32 array `[images, classes]`, in the order of `classes`.
        # Raises
            ValueError: If there is no classifier, or as `encode`.
        """
        if self.classes is None:
            raise ValueError(
                "There is no classifier: this encoder was not trained with labels. `with_classifier(images, labels)` "
                "fits one on its features."
            )
        if self._heads:
            logits = tf.constant(self.encode(images, batch_size, progress))
            for head in self._heads.values():
                logits = head(logits, training=False)
        else:
            logits = _joined(self._batches(images, None, batch_size, progress))
        return tf.nn.softmax(logits).numpy()

    def with_classifier(self, images: Images, labels: Sequence[Any] | np.ndarray) -> "FrozenEncoder":
        """The same encoder with a linear classifier, fitted on its features by scikit-learn's logistic regression.

        # Arguments
            images: See `encode`.
            labels: One for each image, numbers or names.
        # Raises
            ValueError: If there is not one label per image, or only one class, or labels are no numbers or texts.
        """
        labels = _names("labels", labels)
        features = self.encode(images)
        if labels.shape != (len(features),):
            raise ValueError(f"`labels` must be one per image ({len(features)}), got shape {labels.shape}.")
        regression = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(features, labels)
        scaler, linear = (step for _, step in regression.steps)
        kernel, bias = linear.coef_.T / scaler.scale_[:, None], linear.intercept_
        bias = bias - scaler.mean_ @ kernel
        if kernel.shape[1] == 1:  # of two classes, the first has the score 0
            kernel, bias = np.append(0 * kernel, kernel, axis=1), np.append(0.0, bias)
        classifier = linear_classifier(CLASSIFIER, self.feature_dim, len(linear.classes_))
        dense = classifier.layers[-1]
        dense.kernel.assign(kernel)
        dense.bias.assign(bias)
        return FrozenEncoder(self.encoder, self.image_size, classifier, None, linear.classes_)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes all of it into a new folder, which `larq_ssl.load_encoder` reads.

        It is an encoder folder like those of runs, for `larq_ssl.models.load_encoder` and `--encoder_dir`, with the
        classifier beside.

        # Raises
            ValueError: If the folder exists, or a weight is not finite.
        """
        with whole_folder(folder) as unfinished:
            # The size is part of the spec, and not of the hash.
            save_encoder(self.encoder.at(self.image_size), unfinished / "encoder")
            for file in (unfinished / "encoder").iterdir():
                file.rename(unfinished / file.name)
            (unfinished / "encoder").rmdir()
            for name, head in self._heads.items():
                save_head(head, unfinished / name)
            if self._classes is not None:
                write_json(unfinished / CLASSES_FILE, self._classes.tolist())

    def _batches(
        self,
        images: Images,
        output: str | None,
        batch_size: int,
        progress: Progress | None,
        max_bad_images: float = 0.0,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        run = frozen(self.encoder, self.image_size, output)
        if not isinstance(images, tf.data.Dataset):
            images = image_dataset(images)
        total = count(images)
        for numbers, pixels in batches(images, self.image_size, batch_size, max_bad_images):
            if not len(numbers):
                continue
            yield numbers, run(pixels).numpy()
            if progress is not None and total is not None:
                progress(int(numbers[-1]) + 1, total)

    def __repr__(self) -> str:
        spec = self.encoder.spec
        parts = [spec.name, spec.binarization, f"{self.image_size} px", f"{self.feature_dim} features"]
        parts += [] if self._class_count is None else [f"{self._class_count} classes"]
        return f"FrozenEncoder({', '.join(parts)})"

    def __sklearn_clone__(self) -> "FrozenEncoder":
        """Nothing in it changes: as a parameter of an estimator it need not be copied."""
        return self

    def __reduce__(self) -> tuple:
        """For pickle: specs and arrays, no object of Keras."""
        spec = dataclasses.asdict(self.encoder.spec)
        heads = {name: (dataclasses.asdict(head.spec), _arrays(head)) for name, head in self._heads.items()}
        return _rebuild, (spec, _arrays(self.encoder), self.image_size, heads, self._classes)


def _joined(parts: Iterator[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    found = [rows for _, rows in parts]
    if not found:
        raise ValueError("`images` holds no image.")
    return np.concatenate(found)


def _names(argument: str, classes: Sequence[Any] | np.ndarray) -> np.ndarray:
    """Names or numbers of classes as an array, if `FrozenEncoder.save` can write them."""
    names = np.asarray(classes)
    try:
        json.dumps(names.tolist(), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"`{argument}` must be numbers or texts, got {names.dtype}: {error}.") from error
    return names


def _arrays(model: tf.keras.Model) -> dict[str, np.ndarray]:
    return {key: variable.numpy() for key, variable in named_weights(model).items()}


def _rebuild(
    spec: dict[str, Any],
    arrays: dict[str, np.ndarray],
    image_size: int,
    heads: dict[str, tuple[dict[str, Any], dict[str, np.ndarray]]],
    classes: np.ndarray | None,
) -> FrozenEncoder:
    encoder = build_blank(EncoderSpec(**spec))
    assign_weights(encoder, arrays)
    built = {}
    for name, (head_spec, weights) in heads.items():
        built[name] = build_head(HeadSpec(**head_spec))
        assign_weights(built[name], weights)
    return FrozenEncoder(encoder, image_size, built.get(CLASSIFIER), built.get(HEAD), classes)
