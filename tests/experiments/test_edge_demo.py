"""From a folder of images to a file that a device runs, in one command; and the notebook that shows the same steps."""

import json
import os
import pathlib
import shutil

import numpy as np
import pytest
from PIL import Image

from larq_ssl.data.datasets import load_dataset
from larq_ssl.experiments import edge_demo

pytest.importorskip("larq_compute_engine")

NOTEBOOK = pathlib.Path(__file__).parents[2] / "docs" / "edge.ipynb"


def notebook() -> dict:
    return json.loads(NOTEBOOK.read_text())


def code_cells() -> list[dict]:
    return [cell for cell in notebook()["cells"] if cell["cell_type"] == "code"]


def test_the_digits_become_a_folder_of_images(tmp_path):
    edge_demo.write_digits(tmp_path / "images")
    for split, size in (("train", 1400), ("val", 397)):
        digits = load_dataset("digits", split)
        files = sorted((tmp_path / "images" / split).rglob("*.png"), key=lambda file: file.stem)
        assert len(files) == size
        assert [file.parent.name for file in files] == [str(label) for label in digits.labels()]
        np.testing.assert_array_equal(np.stack([np.asarray(Image.open(file)) for file in files]), digits.images)


@pytest.mark.slow
def test_from_images_to_an_audited_file(commands):
    """A few steps of each training: what is tried is the way, not the accuracy at its end."""
    out = commands.folder / "edge"
    done = commands.run("edge_demo", f"--out={out}", "--epochs=1")
    assert done.code == 0, done.err
    record = json.loads((out / "exported" / "export.json").read_text())
    audit = record["audit"]
    assert audit["packed_layers"] == audit["binary_layers"] == 16
    assert audit["end_to_end"]["images"] == 397
    top1 = {name: 100 * audit["end_to_end"][f"{name}_top1"] for name in ("keras", "file")}
    assert abs(top1["keras"] - top1["file"]) <= 0.5
    assert f"| fine-tuned, Keras: top 1 in percent | {top1['keras']:.1f} |" in done.out
    assert f"| the file: top 1 in percent | {top1['file']:.1f} |" in done.out
    assert (out / "speed.md").read_text() in done.out
    labels = json.loads((out / "fine_tuned" / "labels.json").read_text())
    assert labels == json.loads((out / "untrained" / "labels.json").read_text())
    # Taken again, it trains and writes nothing, but looks at what came out.
    audit["end_to_end"]["file_top1"] += 0.006
    (out / "exported" / "export.json").write_text(json.dumps(record))
    again = commands.run("edge_demo", f"--out={out}", "--epochs=1")
    assert again.code == 1
    assert "Epoch 1/1" not in again.out
    assert f"{out / 'exported'} is there already." in again.out
    assert "The file's accuracy differs from Keras's by" in again.err.splitlines()[-1]


def test_a_step_that_fails_ends_it(commands):
    done = commands.run("edge_demo", f"--out={commands.folder / 'no_edge'}", "--data_dir=nowhere")
    assert done.code == 2
    assert "The walk-through stops: simclr ended with exit code 2." in done.err
    assert "Traceback" not in done.err


def test_the_notebook_takes_the_same_steps_and_was_run():
    lines = [line for cell in code_cells() for line in "".join(cell["source"]).splitlines()]
    shown = [line for line in lines if line.startswith("python -m larq_ssl.experiments.")]
    out = pathlib.Path("edge")
    steps = edge_demo.steps(out, out / "images")
    wanted = [["python", "-m", f"larq_ssl.experiments.{step.command[0]}", *step.command[1:]] for step in steps]
    assert [line.partition(" | ")[0].partition(" > ")[0].split() for line in shown] == wanted
    for number, cell in enumerate(code_cells(), 1):
        assert cell["execution_count"] == number
        assert not [output for output in cell["outputs"] if output["output_type"] == "error"]
    pictures = [output for cell in code_cells() for output in cell["outputs"] if "image/png" in output.get("data", {})]
    assert len(pictures) == 2


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    import nbclient
    import nbformat

    shutil.copy(NOTEBOOK, tmp_path)
    book = nbformat.read(tmp_path / NOTEBOOK.name, as_version=4)
    # Commands of this Python, of this checkout.
    monkeypatch.setenv("PATH", f"{pathlib.Path(nbclient.__file__).parents[4] / 'bin'}{os.pathsep}{os.environ['PATH']}")
    nbclient.NotebookClient(book, timeout=1800, resources={"metadata": {"path": str(tmp_path)}}).execute()
    record = json.loads((tmp_path / "edge" / "exported" / "export.json").read_text())
    assert record["audit"]["end_to_end"]["keras_top1"] >= 0.9
    assert (tmp_path / "edge" / "speed.md").is_file()
