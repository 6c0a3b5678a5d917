"""Protocols that measure a frozen encoder, one per module; each returns a flat dict of named numbers."""

from larq_ssl.evaluation.calibrate import calibrate_batch_norm
from larq_ssl.evaluation.features import Features, extract
from larq_ssl.evaluation.untrained import raw_pixels, untrained

__all__ = ["Features", "calibrate_batch_norm", "extract", "raw_pixels", "untrained"]
