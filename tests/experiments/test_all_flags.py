"""Every flag of every command, from absl's own registry, with values that are wrong by its kind: a sentence each."""

import json
import pathlib
import re

import pytest

from larq_ssl import experiments

FOLDER = pathlib.Path(experiments.__file__).parent
COMMANDS = sorted(file.stem for file in FOLDER.glob("*.py") if re.search(r"^def main\(", file.read_text(), re.M))
FEWEST = {
    "status": 0,
    "import_torch": 4,
    "cost": 6,
    "report": 4,
    "edge_demo": 4,
    "grid": 5,
    "endurance": 5,
    "reliability": 3,
}
"""Flags of the commands with the fewest: so that a walk over nothing is noticed."""


NEEDED = {"benchmark": ["--what=encode"], "views": ["--policy=bssl"], "endurance": ["--out=nowhere"]}
"""Flags that have to be given."""


def walked(commands, command: str) -> dict:
    done = commands.python(f"import walking; walking.walk_wrong_values({command!r}, {NEEDED.get(command, [])!r})")
    assert done.code == 0, done.err
    return json.loads(done.out.splitlines()[-1])


def test_there_are_commands():
    assert len(COMMANDS) >= 32
    assert {"bssl", "knn", "encode", "report"} <= set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_value_that_is_wrong_by_its_kind_is_told(command, commands):
    found = walked(commands, command)
    assert len(found["flags"]) >= FEWEST.get(command, 7)
    assert len(found["ends"]) >= len([flag for flag in found["flags"] if flag["kind"] != "text"])
    for end in found["ends"]:
        *_, word = end["words"]
        told = [line for line in end["err"].splitlines() if line]
        assert end["code"] in (1, 2), end
        assert len(told) == 1, end
        assert re.match(rf"error: {re.escape(word)}: the value must be (true or|one of|an?) .*\.$", told[0]), end
