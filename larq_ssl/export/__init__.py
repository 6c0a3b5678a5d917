"""From an encoder to a file that a device runs, with proof that it computes the same."""

from larq_ssl.export.audit import AuditImages, audit, problems
from larq_ssl.export.baking import bake, in_float32, refusal
from larq_ssl.export.choosing import AGREEMENT, choose
from larq_ssl.export.conversion import compute_engine, float_file, packed_file, write_saved_model
from larq_ssl.export.flatbuffer import LiteFile
from larq_ssl.export.product import PIXELS, Product, feature_name, make_product
from larq_ssl.export.running import KERNELS, run
from larq_ssl.export.writing import write_export

__all__ = [
    "AGREEMENT",
    "KERNELS",
    "PIXELS",
    "AuditImages",
    "LiteFile",
    "Product",
    "audit",
    "bake",
    "choose",
    "compute_engine",
    "feature_name",
    "float_file",
    "in_float32",
    "make_product",
    "packed_file",
    "problems",
    "refusal",
    "run",
    "write_export",
    "write_saved_model",
]
