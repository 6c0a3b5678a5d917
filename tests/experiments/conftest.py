"""One process for all tests from which commands are forked."""

from collections.abc import Iterator

import pytest

from tests.experiments.commands import Commands


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    server = Commands(tmp_path_factory.mktemp("commands"))
    yield server
    server.close()
