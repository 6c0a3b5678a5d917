"""One command with many wrong command lines in one process; a process for each of them would take hours.

Run in a process of `tests.experiments.commands` in which no flag is defined yet.
"""

import ast
import contextlib
import dataclasses
import importlib
import inspect
import io
import json
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import CodeType, ModuleType
from typing import Any

from absl import flags
from absl.testing import flagsaver

NOT_FINITE = ("nan", "inf", "-inf")


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag as far as it says what its values are.

    # Attributes
        kind: One of `float`, `int`, `bool`, `enum`, `text`.
        wrong: Values that no check but that of the flag itself is needed to refuse.
    """

    name: str
    kind: str
    wrong: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class End:
    """How a command line ended: exit code (`None`: it was not refused) and what was printed to standard error."""

    words: tuple[str, ...]
    code: int | None
    err: str


def flags_of_larq_ssl() -> list[Flag]:
    """All flags that the modules imported so far define, by absl's registry."""
    modules = flags.FLAGS.flags_by_module_dict()
    found = {flag.name: flag for module in modules if module.startswith("larq_ssl.") for flag in modules[module]}
    return [_described(flag) for _, flag in sorted(found.items())]


def _described(flag: flags.Flag) -> Flag:
    parser = flag.parser
    if isinstance(parser, flags.BooleanParser):
        return Flag(flag.name, "bool", ("maybe", "2"))
    if isinstance(parser, flags.EnumParser):
        return Flag(flag.name, "enum", ("no_such_choice", ""))
    if isinstance(parser, flags.IntegerParser):
        return Flag(flag.name, "int", ("many", "1.5", "", *_outside(parser, 1)))
    if isinstance(parser, flags.FloatParser):
        return Flag(flag.name, "float", ("much", "", *NOT_FINITE, *_outside(parser, 1e-9)))
    return Flag(flag.name, "text", ())


def _outside(parser: Any, step: float) -> list[str]:
    lowest, highest = parser.lower_bound, parser.upper_bound
    below = [] if lowest is None else [str(lowest - max(step, 1e-6 * abs(lowest)) if lowest else -step)]
    too_large = "9" * 20 if step == 1 else "1e+300"
    above = [too_large] if highest is None else [str(highest + max(step, 1e-6 * abs(highest)))]
    return [*below, *above]


def walk(command: str, lines: Callable[[], Iterator[Sequence[str]]], main: Callable[..., int] | None = None) -> None:
    """Prints how each of many command lines of a command ends, as JSON.

    # Arguments
        command: Name of a module of `larq_ssl.experiments`.
        lines: The command lines, once the flags of the command are defined.
        main: Called instead of the command's own main function, where only the parsing is looked at.
    """
    module = importlib.import_module(f"larq_ssl.experiments.{command}")
    start = _start(module)
    if main is not None:
        module.main = main
    ends = [_end(command, start, module, tuple(words)) for words in lines()]
    described = [dataclasses.asdict(flag) for flag in flags_of_larq_ssl()]
    print(json.dumps({"flags": described, "ends": [dataclasses.asdict(end) for end in ends]}))


def _start(module: ModuleType) -> CodeType:
    """What a module does if it is run as a command."""
    last = ast.parse(inspect.getsource(module)).body[-1]
    if not isinstance(last, ast.If) or "__main__" not in ast.unparse(last.test):
        raise ValueError(f"{module.__name__} is no command.")
    return compile(ast.Module(last.body, []), module.__file__ or "", "exec")


def _end(command: str, start: CodeType, module: ModuleType, words: tuple[str, ...]) -> End:
    before, err = flagsaver.save_flag_values(), io.StringIO()
    sys.argv = [command, *words]
    code: Any = None
    with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(start, vars(module))
        except SystemExit as stop:
            code = stop.code
        except BaseException:  # noqa: BLE001  what Python itself does at the top
            traceback.print_exc()
    flagsaver.restore_flag_values(before)
    return End(words, code, err.getvalue())


def walk_wrong_values(command: str, needed: Sequence[str] = ()) -> None:
    """All flags of a command with all values that are wrong by their kind.

    # Arguments
        needed: Flags without which the command is not parsed at all.
    """
    walk(
        command,
        lambda: ([*needed, f"--{flag.name}={value}"] for flag in flags_of_larq_ssl() for value in flag.wrong),
        lambda *_: 0,
    )


def walk_up_to_training(command: str, lines: Sequence[Sequence[str]]) -> None:
    """Command lines that the command itself looks at; the first step of a training is an error."""

    def refuse(*_: Any) -> int:
        raise AssertionError("It trains.")

    importlib.import_module(f"larq_ssl.experiments.{command}")
    # Not every command trains, and the flags of training are not those of a probe.
    if "larq_ssl.experiments.training" in sys.modules:
        sys.modules["larq_ssl.experiments.training"]._fit = refuse  # type: ignore[attr-defined]
    walk(command, lambda: iter(lines))
