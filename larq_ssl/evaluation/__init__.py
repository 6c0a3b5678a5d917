"""Protocols that measure a frozen encoder, one per module; each returns a flat dict of named numbers."""

from larq_ssl.evaluation.calibrate import calibrate_batch_norm
from larq_ssl.evaluation.features import Features, extract, raw_pixels

__all__ = ["Features", "calibrate_batch_norm", "extract", "raw_pixels"]
