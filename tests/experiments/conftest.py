"""One process for all tests from which commands are forked."""

from collections.abc import Iterator

import pytest

from tests.experiments.commands import Commands, add_short_networks


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    # Tests read what the commands have saved.
    add_short_networks()
    server = Commands(tmp_path_factory.mktemp("commands"))
    yield server
    server.close()
