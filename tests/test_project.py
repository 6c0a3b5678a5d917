"""The house rules that a machine can check, and what the project's own files promise about each other."""

import ast
import configparser
import pathlib
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement

import larq_ssl.version

ROOT = pathlib.Path(__file__).parent.parent
PACKAGE = ROOT / "larq_ssl"
RECIPES = ROOT / "experiments" / "recipes"

# Imports point one way: from a higher layer to the same or a lower one. What is not named is of layer 1.
LAYERS = {
    "experiments": 3,
    "report": 3,
    "inference": 3,
    "methods": 2,
    "evaluation": 2,
    "callbacks": 2,
    "export": 2,
    "layers": 0,
    "quantizers": 0,
    "roles": 0,
    "version": 0,
}
DISTRIBUTIONS = {"PIL": "pillow", "absl": "absl-py", "sklearn": "scikit-learn", "pkg_resources": "setuptools"}


def modules(folder: pathlib.Path = PACKAGE) -> Iterator[tuple[pathlib.Path, ast.Module]]:
    for file in sorted(folder.rglob("*.py")):
        yield file.relative_to(ROOT), ast.parse(file.read_text(encoding="utf-8"))


def imports(file: pathlib.Path, tree: ast.Module) -> Iterator[str]:
    """Absolute names of all that a module imports, `from a import b` as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = ".".join(file.parent.parts[: len(file.parent.parts) - node.level + 1]) if node.level else ""
            source = ".".join(part for part in (above, node.module) if part)
            yield from (f"{source}.{name.name}" for name in node.names)


def setup_cfg() -> configparser.ConfigParser:
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg", encoding="utf-8")
    return settings


def requirements(text: str) -> list[Requirement]:
    lines = (line.strip() for line in text.splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def test_flags_live_in_experiments_alone():
    offenders = [
        f"{file}: {name}"
        for file, tree in modules()
        if "experiments" not in file.parts
        for name in imports(file, tree)
        if name.startswith(("absl.flags", "absl.app", "argparse"))
    ]
    assert offenders == []


def test_no_except_catches_everything():
    too_wide = {"Exception", "BaseException"}
    offenders = []
    for file, tree in modules():
        for node in ast.walk(tree):
            if isinstance(node, ast.ExceptHandler):
                caught = {
                    part.id for part in ast.walk(node.type or ast.Name("Exception")) if isinstance(part, ast.Name)
                }
                offenders += [f"{file}:{node.lineno}"] if caught & too_wide else []
    assert offenders == []


def test_trainable_is_never_set():
    """`trainable = False` also puts BatchNormalization in inference mode; methods choose variables."""
    offenders = [
        f"{file}:{node.lineno}"
        for file, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr == "trainable" and isinstance(node.ctx, ast.Store)
        if file.name != "calibrate.py"  # which needs the mode, and puts back what it found
    ]
    assert offenders == []


@pytest.mark.parametrize("folder", ["larq_ssl", "tests"])
def test_torch_is_not_imported(folder):
    offenders = [
        f"{file}: {name}"
        for file, tree in modules(ROOT / folder)
        for name in imports(file, tree)
        if name.split(".")[0] in {"torch", "torchvision"}
    ]
    assert offenders == []


def test_imports_point_one_way():
    def layer(name: str) -> int:
        return LAYERS.get(name.split(".")[1], 1)

    offenders = []
    for file, tree in modules():
        if file.parent.name == "larq_ssl" and file.name == "__init__.py":
            continue
        own = layer(".".join(file.with_suffix("").parts))
        for name in imports(file, tree):
            if name.startswith("larq_ssl.") and layer(name) > own:
                offenders.append(f"{file}: {name}")
    assert offenders == []


def test_every_import_is_declared():
    declared = {requirement.name for requirement in requirements(setup_cfg()["options"]["install_requires"])}
    known = {*sys.stdlib_module_names, "larq_ssl", "__future__"}
    used = {name.split(".")[0] for file, tree in modules() for name in imports(file, tree)} - known
    missing = {name for name in used if DISTRIBUTIONS.get(name, name.replace("_", "-")) not in declared}
    # Extras are imported where they are used, and an error there names the extra.
    assert missing <= {"larq_compute_engine"}


def test_every_package_is_listed():
    listed = set(setup_cfg()["options"]["packages"].split())
    folders = {".".join(file.parent.parts) for file, _ in modules()}
    assert listed == folders | {"larq_ssl.recipes"}


def test_every_package_has_an_init():
    folders = {file.parent for file, _ in modules()}
    assert [str(folder) for folder in sorted(folders) if not (ROOT / folder / "__init__.py").exists()] == []


def test_the_wheel_holds_modules_types_lists_and_recipes(tmp_path):
    source, wheels = tmp_path / "source", tmp_path / "wheels"
    ignored = shutil.ignore_patterns("__pycache__", "results")
    for folder in ("larq_ssl", "experiments"):
        shutil.copytree(ROOT / folder, source / folder, ignore=ignored)
    for file in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source / file)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    wheels.mkdir()
    command = [sys.executable, "-c", build, str(wheels)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=300)
    (wheel,) = wheels.glob("*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    recipes = {f"larq_ssl/recipes/{file.relative_to(RECIPES).as_posix()}" for file in RECIPES.rglob("*.flags")}
    assert recipes
    lists = {file.relative_to(ROOT).as_posix() for file in PACKAGE.rglob("*.txt")}
    assert "larq_ssl/data/imagenet100.txt" in lists
    lists |= {
        file.relative_to(ROOT).as_posix()
        for ending in ("css", "csv", "html", "js")
        for file in PACKAGE.rglob(f"*.{ending}")
    }
    assert {"larq_ssl/report/template.html", "larq_ssl/report/targets.csv"} <= lists
    assert held == {file.as_posix() for file, _ in modules()} | {"larq_ssl/py.typed"} | recipes | lists


def test_recipes_lie_one_folder_per_dataset():
    """`--recipe=<dataset>/<name>` is how they are named."""
    misplaced = [
        str(file.relative_to(RECIPES))
        for file in RECIPES.rglob("*")
        if file.is_file() and (file.suffix != ".flags" or file.parent.parent != RECIPES)
    ]
    assert misplaced == []


def test_the_lock_fits_the_requirements():
    settings = setup_cfg()
    wanted = requirements(settings["options"]["install_requires"])
    wanted += requirements(settings["options.extras_require"]["test"] + settings["options.extras_require"]["export"])
    locked: dict[str, list[str]] = {}
    for requirement in requirements((ROOT / "requirements.lock").read_text(encoding="utf-8")):
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        locked.setdefault(requirement.name, []).append(pin.version)
    for requirement in wanted:
        versions = locked.get(requirement.name, [])
        assert versions, f"{requirement} is not in requirements.lock: run `make lock`"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_the_lock_of_detection_holds_the_other_one():
    """Both are installed into one environment, whichever comes first."""

    def pins(name: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for requirement in requirements((ROOT / name).read_text(encoding="utf-8")):
            (pin,) = requirement.specifier
            found.setdefault(requirement.name, set()).add(pin.version)
        return found

    main, detection = pins("requirements.lock"), pins("requirements-detection.lock")
    assert {name: detection.get(name) for name in main} == main
    for requirement in requirements(setup_cfg()["options.extras_require"]["detection"]):
        assert all(requirement.specifier.contains(version) for version in detection[requirement.name]), requirement


def test_the_citation_names_this_version():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.findall(r"^version: (.*)$", citation, flags=re.MULTILINE) == [larq_ssl.version.__version__]


def test_pages_link_to_what_is_there():
    """And their pictures are small enough for a repository."""
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        links = re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8"))
        for link in links:
            assert link.startswith("https://") or (page.parent / link).exists(), f"{page.name}: {link}"
    pictures = [file for file in (ROOT / "docs").rglob("*") if file.suffix in {".jpg", ".png"}]
    assert len(pictures) >= 8
    assert [file.name for file in pictures if file.stat().st_size > 300_000] == []


def test_the_changelog_has_a_place_for_the_next_change():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert changelog.count("## [Unreleased]") == 1
