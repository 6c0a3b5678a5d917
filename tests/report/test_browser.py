"""The page as a browser shows it; skipped where there is none."""

import html
import pathlib
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from larq_ssl.report import write
from tests.report.made import report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium")

# Appended to the page: presses a head, then writes down what is there.
_PROBE = """
<script>
const table = document.querySelector("table.sortable");
const heads = [...table.tHead.rows[0].cells];
const order = () => [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
const press = (column) => { heads[column].querySelector("button").click(); return order().join(" "); };
const column = heads.findIndex((head) => head.textContent.includes("kNN while training"));
const found = { before: order().join(" "), down: press(column), sorted: heads[column].getAttribute("aria-sort"),
  up: press(column), numbers: press(0), sorted_before: String(heads[column].getAttribute("aria-sort")),
  broken: String([...document.images].filter((image) => !image.naturalWidth).length) };
document.body.dataset.found = Object.entries(found).map((pair) => pair.join("=")).join(";");
</script>
"""
# The page in frames of several widths: a window cannot be made as narrow as a telephone.
_FRAMES = """<!doctype html><body><script>
onload = () => {
  const sizes = [...document.querySelectorAll("iframe")].map((frame) => frame.contentDocument.documentElement);
  document.body.dataset.found = sizes.map((root) => `${root.clientWidth}=${root.scrollWidth}`).join(";");
};
</script>"""
_WIDTHS = (360, 400, 700, 1400)


def chromium(folder: pathlib.Path, *arguments: str) -> str:
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
    command += [f"--user-data-dir={folder / 'profile'}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


def data_found(text: str) -> dict[str, str]:
    (held,) = re.findall(r'<body data-found="([^"]*)"', text)
    return dict(pair.split("=") for pair in held.split(";"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("browser")
    write(report(made), made / "out")
    text = (made / "out" / "report.html").read_text()
    (made / "probed.html").write_text(text.replace("</body>", f"{_PROBE}</body>"))
    return made


@pytest.fixture(scope="module")
def found(folder):
    text = chromium(folder, "--window-size=1400,1000", "--dump-dom", (folder / "probed.html").as_uri())
    return data_found(text)


def test_a_press_of_a_head_sorts_and_another_turns_it_round(folder, found):
    names = {line.name: str(line.number) for line in report(folder / "again").lines}
    # The table of the digits; the run of ImageNet has another.
    assert found["before"] == "1 2 4 5 6"
    down, up = found["down"].split(), found["up"].split()
    assert found["sorted"] == "descending"
    # 0.93, 0.7, 0.5 and 0.3; of what was not trained there is no number.
    hostile = next(name for name in names if "script" in name)
    of_height = [names[name] for name in (hostile, "third", "first", "unfinished")]
    assert (down[:4], up[:4]) == (of_height, of_height[::-1])
    assert down[4:] == up[4:] == ["6"]
    assert (found["numbers"], found["sorted_before"]) == ("1 2 4 5 6", "null")


def test_all_images_are_shown(found):
    assert found["broken"] == "0"


def test_the_body_never_scrolls_sideways(folder):
    text = html.escape((folder / "out" / "report.html").read_text(), quote=True)
    frames = "".join(f'<iframe style="width:{width}px;border:0" srcdoc="{text}"></iframe>' for width in _WIDTHS)
    (folder / "frames.html").write_text(_FRAMES + frames)
    sizes = data_found(chromium(folder, "--window-size=1500,1000", "--dump-dom", (folder / "frames.html").as_uri()))
    assert [int(width) for width in sizes] == list(_WIDTHS)
    assert sizes == {width: width for width in sizes}


def test_there_is_something_to_see(folder):
    file = folder / "page.png"
    chromium(folder, "--window-size=1400,2400", f"--screenshot={file}", (folder / "out" / "report.html").as_uri())
    pixels = np.asarray(Image.open(file).convert("RGB")).astype(float)
    assert pixels.shape == (2400, 1400, 3)
    assert pixels.std() > 10
