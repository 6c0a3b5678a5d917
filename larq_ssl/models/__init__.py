"""Networks, one architecture per file, and what moves, stores and measures their weights."""

from larq_ssl.models.encoder import Encoder, EncoderSpec
from larq_ssl.models.folder import (
    encoder_hash,
    load_encoder,
    load_head,
    load_weights,
    save_encoder,
    save_head,
    save_weights,
)
from larq_ssl.models.profile import Cost, cost, summary_and_cost, summary_text
from larq_ssl.models.registry import ARCHITECTURES, build
from larq_ssl.models.transfer import TransferReport, assign_weights, copy_weights, named_weights

__all__ = [
    "ARCHITECTURES",
    "Cost",
    "Encoder",
    "EncoderSpec",
    "TransferReport",
    "assign_weights",
    "build",
    "copy_weights",
    "cost",
    "encoder_hash",
    "load_encoder",
    "load_head",
    "load_weights",
    "named_weights",
    "save_encoder",
    "save_head",
    "save_weights",
    "summary_and_cost",
    "summary_text",
]
