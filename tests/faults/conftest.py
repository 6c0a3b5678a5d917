"""What all faults share: the process that commands are forked from, and undisturbed runs to compare with."""

import os
import pathlib
import subprocess
from collections.abc import Iterator

import pytest

from tests.experiments.conftest import commands  # noqa: F401  a fixture
from tests.faults import harness


@pytest.fixture(scope="session", params=harness.ALL_FAULTS)
def trial(request, commands) -> harness.Trial:  # noqa: F811
    """A method, with a run that nothing has disturbed."""
    return harness.Trial(commands, request.param)


@pytest.fixture
def disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path | None]:
    """A file system of its own of 64 MB, or `None` where this user may not mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)]
    if os.getuid() or subprocess.run(mount, capture_output=True).returncode:
        yield None
        return
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
