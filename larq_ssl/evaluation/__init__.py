"""Protocols that measure a frozen encoder; each returns a flat dict of named numbers."""

from larq_ssl.evaluation.calibrate import calibrate_batch_norm
from larq_ssl.evaluation.features import Features, extract, raw_pixels
from larq_ssl.evaluation.knn import knn
from larq_ssl.evaluation.linear import linear
from larq_ssl.evaluation.untrained import untrained

__all__ = ["Features", "calibrate_batch_norm", "extract", "knn", "linear", "raw_pixels", "untrained"]
