"""What all commands share: recipes, mistakes of the user, and how they are told."""

import contextlib
import errno
import logging
import math
import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from absl import app, flags
from absl import logging as absl_logging
from tqdm import tqdm

import larq_ssl

SIGTERM_EXIT = 143
"""Exit code of a run that SIGTERM stopped after saving; the same command goes on."""

DIVERGED_EXIT = 3
"""Exit code of a run whose loss was no longer finite; the same command diverges again."""

LOST_WORKER_EXIT = 69
"""Exit code of a worker that has lost another one (EX_UNAVAILABLE of sysexits.h); all started again, they go on."""

STORAGE_EXIT = 74
"""Exit code of a training that could not write its files (EX_IOERR of sysexits.h); the same command goes on."""

TIME_EXIT = 75
"""Exit code of a run that `--max_hours` stopped after saving (EX_TEMPFAIL of sysexits.h); the same command goes on."""

CHECKPOINT_EVERY = 1000
"""Steps between two checkpoints, by default."""

LARGEST_IMAGE = 8192
"""Largest `--image_size`."""

INTERRUPTED_EXIT = 130
"""Exit code of a command that was stopped with Ctrl-C."""

# Those of float32 and int32.
_LARGEST_FLOAT, _LARGEST_INTEGER = 3.4e38, 2**31 - 1


def run(main: Callable[[], int | None], default_recipe: Callable[[Sequence[str]], str | None] | None = None) -> None:
    """Parses the command line and calls `main`; what it returns is the exit code.

    The flagfile of `--recipe` is put before what the user typed, so that typed flags win.

    # Arguments
        main: The experiment.
        default_recipe: Given the arguments, names the recipe for a command without `--recipe`.
    """

    def checked_main(words: list[str]) -> int | None:
        with user_errors():
            refuse_words(words)
        return main()

    run_on_words(checked_main, default_recipe)


def refuse_words(words: Sequence[str]) -> None:
    """Raises a `ValueError` if there are words on a command line that are no flags."""
    if words:
        raise ValueError(f"{words[0]!r} is not a flag: flags are written --name=value.")


def run_on_words(
    main: Callable[[list[str]], int | None], default_recipe: Callable[[Sequence[str]], str | None] | None = None
) -> None:
    """As `run`, of a command that is also given words that are no flags, such as folders: `main` gets them."""
    with user_errors():
        arguments = with_recipe(sys.argv, default_recipe)
    # TensorFlow writes its warnings itself; absl would write them a second time.
    logging.getLogger("tensorflow").propagate = False
    try:
        app.run(lambda left: main(list(left[1:])), argv=arguments, flags_parser=_parsed)
    except KeyboardInterrupt:
        sys.exit(fail("interrupted; the same command goes on where it was.", INTERRUPTED_EXIT))


def _parsed(argv: list[str]) -> list[str]:
    """What is left of a command line when its flags are parsed; ends the process if one is wrong."""
    try:
        left = flags.FLAGS(argv)
    except flags.IllegalFlagValueError as error:
        name, value = re.findall(r"flag --(\w+)=(.*?): ", str(error), flags=re.DOTALL)[0]
        told = f"--{name} is missing:" if "other than None" in str(error) else f"--{name}={value}:"
        sys.exit(fail(f"{told} the value must be {_allowed(name)}.", 1))
    except flags.Error as error:
        sys.exit(fail(f"{error}; --help lists the flags.", 1))
    except ValueError as error:
        # A value where there may be none (--nofresh=1), or of a flag of absl itself, which does not say of which.
        sys.exit(fail(f"{str(error).rstrip('.')}, in {' '.join(argv[1:])}; --help lists the flags.", 1))
    for name in flags.FLAGS:
        value = flags.FLAGS[name].value
        for part in value if isinstance(value, list) else [value]:
            if (wanted := _instead_of(name, part)) is not None:
                sys.exit(fail(f"--{name}={ascii(part).strip(chr(39))}: the value must be {wanted}.", 1))
    return left


def _instead_of(name: str, value: object) -> str | None:
    """What a parsed value must be that TensorFlow or files cannot have; `None` for one that they can have."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return "text in UTF-8"
    # No bound keeps NaN out, and most flags have none above.
    if isinstance(value, float) and not math.isfinite(value):
        return _allowed(name)
    if isinstance(value, float) and abs(value) > _LARGEST_FLOAT:
        return f"{_allowed(name)} of at most {_LARGEST_FLOAT:g}"
    bounded = getattr(flags.FLAGS[name].parser, "upper_bound", None) is not None
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER and not bounded:
        return f"{_allowed(name)} of at most {_LARGEST_INTEGER:,}"
    return None


def _allowed(name: str) -> str:
    """What the values of a flag may be."""
    parser = flags.FLAGS[name].parser
    if isinstance(parser, flags.BooleanParser):
        return "true or false"
    if isinstance(parser, flags.EnumParser):
        return f"one of {', '.join(parser.enum_values)}"
    # Of absl, "an integer in the range [1, 2]" or "number >= 1e-06".
    wanted = parser.syntactic_help.replace("number", "finite number") or "as --helpfull says"
    return {"i": "an ", "f": "a "}.get(wanted[:1], "") + wanted


def with_recipe(argv: Sequence[str], default_recipe: Callable[[Sequence[str]], str | None] | None) -> list[str]:
    """The command line with its recipe's flagfile in front, and the user's own flagfiles written out."""
    try:
        argv = [argv[0], *flags.FLAGS.read_flags_from_files(argv[1:])]
    except UnicodeDecodeError as error:
        raise ValueError(f"--flagfile={argument('flagfile', argv)} must name a file of text.") from error
    name = argument("recipe", argv) or (default_recipe(argv) if default_recipe else None)
    if not name:
        return list(argv)
    return [argv[0], f"--flagfile={recipe_file(name)}", f"--recipe={name}", *argv[1:]]


def argument(name: str, argv: Sequence[str]) -> str | None:
    """The last value that a command line gives to a flag, before any parsing."""
    value = None
    for position, text in enumerate(argv):
        flag, equals, given = text.partition("=")
        if flag in (f"--{name}", f"-{name}"):
            value = given if equals else (argv[position + 1] if position + 1 < len(argv) else None)
    return value


def switched_on(name: str, argv: Sequence[str]) -> bool:
    """Whether a command line switches a boolean flag on, before any parsing."""
    last = False
    for text in argv:
        flag, equals, given = text.lstrip("-").partition("=")
        if text.startswith("-") and flag in (name, f"no{name}"):
            last = flag == name and (not equals or given.lower() in ("true", "t", "1"))
    return last


def recipes_folder() -> pathlib.Path:
    """Where the flagfiles lie: in the source tree, or inside the installed package."""
    package = pathlib.Path(larq_ssl.__file__).parent
    for folder in (package / "recipes", package.parent / "experiments" / "recipes"):
        if folder.is_dir():
            return folder
    raise ValueError("The recipes of larq_ssl are not installed.")


def recipe_file(name: str) -> pathlib.Path:
    """The flagfile of a recipe such as `digits/bssl_stage1`."""
    folder = recipes_folder()
    file = folder / f"{name}.flags"
    within = folder.resolve() in file.resolve().parents
    if not within or not file.is_file():
        beside = [path.with_suffix("") for path in file.parent.glob("*.flags")] if within else []
        known = sorted(path.relative_to(folder).as_posix() for path in beside or folder.glob("*/"))
        what = "" if beside else "in a folder that is "
        raise ValueError(f"--recipe must be {what}one of {', '.join(known)}, got {name!r}.")
    return file


def digits_recipe(method: str, argv: Sequence[str]) -> str | None:
    """The recipe of a method for the digits, as far as there is one: that of the stage, or else that of no stage.

    # Arguments
        method: What the names of its recipes begin with.
        argv: The command line; on other images than the digits there is no recipe by default.
    """
    if (argument("dataset", argv) or "digits") != "digits":
        return None
    stage = "one_stage" if switched_on("one_stage", argv) else f"stage{argument('stage', argv)}"
    names = (f"digits/{method}_{stage}", f"digits/{method}")
    return next((name for name in names if (recipes_folder() / f"{name}.flags").is_file()), None)


def flags_as_text() -> dict[str, str]:
    """The flags of larq_ssl that have a value, as they would be typed; without `--fresh`, which is for one start."""
    modules = flags.FLAGS.flags_by_module_dict()
    ours = [module for module in modules if module.startswith("larq_ssl.") or module == sys.argv[0]]
    names = {flag.name for module in ours for flag in modules[module]}
    return {
        name: str(flags.FLAGS[name].value) for name in sorted(names - {"fresh"}) if flags.FLAGS[name].value is not None
    }


def refuse_no_place(flag: str, value: str, is_file: bool = False) -> None:
    """Raises a `ValueError` if results can never be written where a flag says, before they are computed.

    # Arguments
        flag: Its name.
        value: A folder, or what the names of files begin with.
        is_file: Whether it is the latter.
    """
    place = pathlib.Path(value).absolute()
    places = place.parents if is_file else (place, *place.parents)
    above = next(folder for folder in places if os.path.lexists(folder))
    if not above.is_dir():
        raise ValueError(f"--{flag}={value} cannot be made: {above} is a file; choose another place.")
    if not os.access(above, os.W_OK):
        raise ValueError(f"--{flag}={value} cannot be written: {above} is read-only; choose another place.")


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns the `ValueError` of a mistake, what the file system refuses, or what needs more memory than there is, into
    one sentence and exit code 2."""
    try:
        yield
    except (ValueError, OSError, flags.Error) as error:
        absl_logging.debug("The mistake was found here:", exc_info=True)
        sys.exit(fail(str(error), 2))
    except _of_memory() as error:
        if not needs_memory(error):
            raise
        absl_logging.debug("The memory was missing here:", exc_info=True)
        sys.exit(fail(no_memory(error), 2))


def _of_memory() -> tuple[type[Exception], ...]:
    """Kinds of errors among which those are that `needs_memory` finds; not all commands import TensorFlow."""
    of_tensorflow = (sys.modules["tensorflow"].errors.OpError,) if "tensorflow" in sys.modules else ()
    return (MemoryError, *of_tensorflow)


def needs_memory(error: Exception) -> bool:
    """Whether NumPy or TensorFlow, also by way of each other, did not get the memory that they asked for."""
    of_tensorflow = type(error).__name__ == "ResourceExhaustedError" and os.strerror(errno.ENOSPC) not in str(error)
    return isinstance(error, MemoryError) or of_tensorflow or "MemoryError: " in str(error)


def no_memory(error: Exception) -> str:
    """The sentence for an error that `needs_memory`."""
    lines = [line for line in str(error).splitlines() if "llocat" in line] or str(error).splitlines() or ["malloc"]
    told = lines[0].rpartition("Error: ")[2].strip().rstrip(".")
    return (
        f"There is not enough memory ({told}): smaller values of such flags as --batch_size, --image_size, --width or "
        "those of heads and queues need less."
    )


def fail(sentence: str, code: int) -> int:
    """Tells the user what went wrong; returns the exit code."""
    print(f"error: {sentence}", file=sys.stderr, flush=True)
    return code


def say(sentence: str) -> None:
    """Tells the user something that is worth a line of its own."""
    print(sentence, flush=True)


def run_command(experiment: str, arguments: Sequence[str]) -> int:
    """Shows and runs another command of larq_ssl; returns its exit code. SIGTERM stops it, and then this process."""
    command = ["-m", f"larq_ssl.experiments.{experiment}", *arguments]
    say(f"$ python {' '.join(command)}")
    process: subprocess.Popen | None = None

    def hand_on(number: int, frame: FrameType | None) -> None:
        if process is None:
            sys.exit(SIGTERM_EXIT)
        process.send_signal(number)

    before = signal.signal(signal.SIGTERM, hand_on)
    try:
        process = subprocess.Popen([sys.executable, *command])
        code = process.wait()
    finally:
        signal.signal(signal.SIGTERM, before)
    if code in (-signal.SIGTERM, SIGTERM_EXIT):
        sys.exit(SIGTERM_EXIT)
    return code


def bar(what: str) -> Callable[[int, int], None]:
    """A progress function that draws a bar."""
    state: dict[str, tqdm] = {}

    def update(done: int, total: int) -> None:
        if "bar" not in state:
            state["bar"] = tqdm(total=total, desc=what, leave=False, disable=None)
        state["bar"].update(done - state["bar"].n)
        if done >= total:
            state["bar"].close()

    return update
