"""Networks of few blocks are among those of larq_ssl."""

import pytest

from tests.experiments.commands import add_short_networks


@pytest.fixture(scope="session", autouse=True)
def _short_networks():
    add_short_networks()
