"""Networks, one architecture per file, and what moves, stores and measures their weights."""

from larq_ssl.models.encoder import Encoder, EncoderSpec
from larq_ssl.models.registry import ARCHITECTURES, build

__all__ = ["ARCHITECTURES", "Encoder", "EncoderSpec", "build"]
