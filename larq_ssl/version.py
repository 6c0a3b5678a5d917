"""The version of larq_ssl, readable without importing TensorFlow."""

__version__ = "0.1.0"
