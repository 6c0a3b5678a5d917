"""Files of PyTorch for tests."""

import pytest

from larq_ssl.torch_import import import_checkpoint
from tests.torch_import import writing


@pytest.fixture
def load(tmp_path):
    def load_contents(contents, layout="zip", **arguments):
        return import_checkpoint(writing.save(tmp_path / "file.pth", contents, layout), **arguments)

    return load_contents
