"""The folder of an export, whole or not at all."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from larq_ssl.evaluation.results import provenance
from larq_ssl.export.audit import AuditImages
from larq_ssl.export.card import markdown
from larq_ssl.export.choosing import choose
from larq_ssl.export.conversion import compute_engine, float_file, write_saved_model
from larq_ssl.export.product import Product, make_product
from larq_ssl.files import whole_folder, write_json, write_whole
from larq_ssl.models import ARCHITECTURES, Encoder, copy_weights, cost
from larq_ssl.models.folder import encoder_hash
from larq_ssl.models.registry import build_blank

MODEL_FILE, TWIN_FILE, RECORD_FILE = "model.tflite", "float_twin.tflite", "export.json"
CLASSES_FILE, CARD_FILE, SAVED_MODEL = "classes.txt", "model_card", "saved_model"


def float_twin(product: Product) -> Product:
    """The float network of the same shape, to compare size and speed with; what it computes means nothing.

    # Raises
        ValueError: If the network has no float form.
    """
    encoder = product.reference
    if "none" not in ARCHITECTURES[encoder.spec.name].binarizations:
        raise ValueError(f"`float_twin` must be False: {encoder.spec.name} has no float form.")
    twin = build_blank(dataclasses.replace(encoder.spec, binarization="none"))
    copy_weights(encoder, twin)
    return make_product(twin, product.image_size, product.head, product.pixels, allow_float=True)


def write_export(
    folder: str | os.PathLike[str],
    encoder: Encoder,
    product: Product,
    images: AuditImages,
    class_names: Sequence[str] = (),
    facts: Mapping[str, Any] | None = None,
    with_float_twin: bool = False,
    with_saved_model: bool = True,
    with_int8: bool = True,
) -> dict[str, Any]:
    """Converts, audits and writes a network.

    In the folder: `model.tflite` (Larq Compute Engine), `export.json` (the audit), `model_card.md` and
    `model_card.json`, `classes.txt` of a classifier, `saved_model/` and `float_twin.tflite` if wanted.

    # Arguments
        folder: Must not exist.
        encoder: The trained network.
        product: Made of it by `make_product`.
        images: What the audit looks at.
        class_names: Of the class scores.
        facts: What the model card is to tell beside, see `card.markdown`.
        with_float_twin, with_saved_model: What else is written.
        with_int8: Whether first and last layers are in 8 bits where that passes the audit, see `choosing.choose`.
    # Returns
        What `export.json` says.
    # Raises
        ValueError: If the folder exists or the audit fails, naming the layers; then nothing is written.
    """
    content, found, layers = choose(product, images, with_int8)
    record = {**_description(encoder, product, class_names), "real_valued_layers": layers, "audit": found}
    with whole_folder(folder) as unfinished:
        write_whole(unfinished / MODEL_FILE, content)
        if with_float_twin:
            twin = float_file(float_twin(product))
            write_whole(unfinished / TWIN_FILE, twin)
            record["float_twin_bytes"] = len(twin)
        if with_saved_model:
            write_saved_model(product, unfinished / SAVED_MODEL)
        if class_names and product.classes is not None:
            write_whole(unfinished / CLASSES_FILE, "".join(f"{name}\n" for name in class_names))
        write_json(unfinished / RECORD_FILE, record)
        _write_card(unfinished, {**(facts or {}), "export": record})
    return record


def _description(encoder: Encoder, product: Product, class_names: Sequence[str]) -> dict[str, Any]:
    size = product.image_size
    work = cost(encoder, size)
    return {
        "encoder": dataclasses.asdict(encoder.spec),
        "encoder_hash": encoder_hash(encoder),
        "input": {"shape": [1, size, size, 3], "pixels": product.pixels, "range": [0, 255]},
        "output": {"features": encoder.feature_dim} if product.classes is None else {"class_scores": product.classes},
        "class_names": list(class_names) if product.classes is not None else [],
        "cost": {
            "binary_macs": work.binary_macs,
            "float_macs": work.float_macs,
            "ops": work.ops,
            "size_bytes": work.size_bytes,
        },
        "larq_compute_engine": compute_engine().__version__,
        **provenance(),
    }


def _write_card(folder: pathlib.Path, facts: dict[str, Any]) -> None:
    # JSON has no tuples, and a card read back is to say the same.
    facts = json.loads(json.dumps(facts, allow_nan=False))
    write_json(folder / f"{CARD_FILE}.json", facts)
    write_whole(folder / f"{CARD_FILE}.md", markdown(facts))
