"""PyTorch checkpoints become encoders, without PyTorch: read as data, mapped by name, strictly and counted."""

from larq_ssl.torch_import.importing import Imported, import_checkpoint
from larq_ssl.torch_import.kinds import KINDS
from larq_ssl.torch_import.reader import Checkpoint, read_checkpoint
from larq_ssl.torch_import.tensors import StoredTensor

__all__ = ["KINDS", "Checkpoint", "Imported", "StoredTensor", "import_checkpoint", "read_checkpoint"]
