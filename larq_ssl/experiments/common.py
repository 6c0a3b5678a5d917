"""What all commands share: recipes, mistakes of the user, and how they are told."""

import contextlib
import logging
import pathlib
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

INTERRUPTED_EXIT = 130
"""Exit code of a command that was stopped with Ctrl-C."""


def run(main: Callable[[], int | None], default_recipe: Callable[[Sequence[str]], str | None] | None = None) -> None:
    """Parses the command line and calls `main`; what it returns is the exit code.

    The flagfile of `--recipe` is put before what the user typed, so that typed flags win.

    # Arguments
        main: The experiment.
        default_recipe: Given the arguments, names the recipe for a command without `--recipe`.
    """

    def checked_main(words: list[str]) -> int | None:
        with user_errors():
            if words:
                raise ValueError(f"{words[0]!r} is not a flag: flags are written --name=value.")
        return main()

    run_on_words(checked_main, default_recipe)


def run_on_words(
    main: Callable[[list[str]], int | None], default_recipe: Callable[[Sequence[str]], str | None] | None = None
) -> None:
    """As `run`, of a command that is also given words that are no flags, such as folders: `main` gets them."""
    with user_errors():
        arguments = with_recipe(sys.argv, default_recipe)
    # TensorFlow writes its warnings itself; absl would write them a second time.
    logging.getLogger("tensorflow").propagate = False
    try:
        app.run(lambda left: main(list(left[1:])), argv=arguments)
    except KeyboardInterrupt:
        sys.exit(fail("interrupted; the same command goes on where it was.", INTERRUPTED_EXIT))


def with_recipe(argv: Sequence[str], default_recipe: Callable[[Sequence[str]], str | None] | None) -> list[str]:
    """The command line with its recipe's flagfile in front, and the user's own flagfiles written out."""
    argv = [argv[0], *flags.FLAGS.read_flags_from_files(argv[1:])]
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
    if not file.is_file():
        beside = [path.with_suffix("") for path in file.parent.glob("*.flags")]
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


@contextlib.contextmanager
def user_errors() -> Iterator[None]:
    """Turns the `ValueError` of a mistake, or what the file system refuses, into one sentence and exit code 2."""
    try:
        yield
    except (ValueError, OSError, flags.Error) as error:
        absl_logging.debug("The mistake was found here:", exc_info=True)
        sys.exit(fail(str(error), 2))


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
