"""Which sentences of the package no test has words of: `python -m tests.raises` lists them."""

import ast
import dataclasses
import functools
import pathlib
import re

ROOT = pathlib.Path(__file__).parent.parent
WORDS = 3
"""So many words in a row have to be the same."""


@dataclasses.dataclass(frozen=True)
class Raise:
    """A place at which the package refuses something, and the constant parts of what it says."""

    file: str
    line: int
    function: str
    parts: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} {self.function}: {' … '.join(self.parts)}"


def _refusals() -> set[str]:
    """`ValueError` and what the package derives of it."""
    found = {"ValueError", "OSError", "FileExistsError"}
    for file in (ROOT / "larq_ssl").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Error"):
                found.add(node.name)
    return found


def _parts(node: ast.AST) -> tuple[str, ...]:
    """The texts in an expression, in their order."""
    texts = [
        (child.lineno, child.col_offset, child.value)
        for child in ast.walk(node)
        if isinstance(child, ast.Constant) and isinstance(child.value, str) and re.search(r"\w", child.value)
    ]
    return tuple(text for _, _, text in sorted(texts))


def raises() -> list[Raise]:
    """All of them, by file and line."""
    kinds, found = _refusals(), []
    for file in sorted((ROOT / "larq_ssl").rglob("*.py")):
        tree = ast.parse(file.read_text())
        functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        for node in ast.walk(tree):
            call = node.exc if isinstance(node, ast.Raise) else None
            if not isinstance(call, ast.Call) or ast.unparse(call.func).split(".")[-1] not in kinds:
                continue
            around = [f for f in functions if f.lineno <= node.lineno <= (f.end_lineno or 0)]
            name = max(around, key=lambda f: f.lineno).name if around else "module"
            parts = tuple(part for argument in call.args for part in _parts(argument))
            found.append(Raise(file.relative_to(ROOT).as_posix(), node.lineno, name, parts))
    return found


def _words(text: str) -> list[str]:
    """Without what a regular expression adds."""
    return re.findall(r"[\w-]+", re.sub(r"\\[sdwbS]|\\", "", text))


def _runs(text: str, length: int) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[i : i + length]) for i in range(len(words) - length + 1)}


@functools.cache
def tested() -> dict[int, set[tuple[str, ...]]]:
    """Runs of one to three words in all texts of the tests but their docstrings."""
    found: dict[int, set[tuple[str, ...]]] = {length: set() for length in range(1, WORDS + 1)}
    for file in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(file.read_text())
        docstrings = {
            id(node.body[0].value)
            for node in ast.walk(tree)
            if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef)
            and node.body
            and isinstance(node.body[0], ast.Expr)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                for length, known in found.items():
                    known |= _runs(node.value, length)
    return found


def untested() -> list[Raise]:
    """Those of whose sentences no test has three words in a row (or all words of one that has fewer)."""
    missing = []
    for one in raises():
        runs = {run for part in one.parts for run in _runs(part, WORDS)}
        short = {tuple(_words(part)) for part in one.parts if 2 <= len(_words(part)) < WORDS} if not runs else set()
        if not any(run in tested()[len(run)] for run in runs | short):
            missing.append(one)
    return missing


if __name__ == "__main__":
    for one in (*untested(), f"{len(untested())} of {len(raises())}"):
        print(one)
