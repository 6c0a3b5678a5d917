"""The order of the files of tests."""

import collections
import pathlib
from unittest import mock

from tests.scheduling import LONG, LongestFirst


def test_long_files_are_files():
    folder = pathlib.Path(__file__).parent
    assert [file for file in LONG if not (folder / file).is_file()] == []
    assert len(set(LONG)) == len(LONG)


def test_files_come_by_their_place_and_then_by_their_tests():
    # As xdist has sorted them.
    files = ["tests/test_many.py", "tests/test_some.py", f"tests/{LONG[1]}", f"tests/{LONG[0]}"]
    tests = [f"{file}::test" for file in files]
    scheduler, node = LongestFirst.__new__(LongestFirst), mock.Mock()
    scheduler.workqueue = collections.OrderedDict(zip(files, ({test: False} for test in tests), strict=True))
    scheduler.assigned_work, scheduler.registered_collections = {}, {node: tests}
    for _ in files:
        scheduler._assign_work_unit(node)
    assert [call.args[0] for call in node.send_runtest_some.call_args_list] == [[3], [2], [0], [1]]
