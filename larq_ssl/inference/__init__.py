"""Encoders in use: images of any kind in, features and classes out."""

from larq_ssl.inference.binary_encoder import BinaryEncoder
from larq_ssl.inference.frozen_encoder import FrozenEncoder
from larq_ssl.inference.loading import load_encoder

__all__ = ["BinaryEncoder", "FrozenEncoder", "load_encoder"]
