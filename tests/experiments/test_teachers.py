"""What `--teacher` may name, which head goes with it, and that a PyTorch file is converted once."""

import json
import types

import pytest

from larq_ssl.experiments import imported_run, teachers
from larq_ssl.experiments.run_folder import RunFolder


def finished(folder, *heads: str) -> RunFolder:
    """A run with two encoders and some heads, of which no more is looked at than that they are there."""
    run = RunFolder(folder)
    for file in (
        *(run.encoder(name) / "encoder.json" for name in ("student", "ema")),
        *(run.head(name).parent / "head.json" for name in heads),
    ):
        file.parent.mkdir(parents=True)
        file.write_text("{}")
    return run


@pytest.fixture
def flags(monkeypatch):
    told = types.SimpleNamespace(teacher=None, dataset="cifar10", seed=0)
    monkeypatch.setattr(teachers, "FLAGS", told)
    return told


def test_a_run_or_an_encoder_folder(tmp_path):
    run = finished(tmp_path / "run", "student_head", "momentum_head")
    student, ema = run.encoder("student"), run.encoder("ema")
    assert teachers.find_teacher(str(run.path)) == student
    assert teachers.find_teacher(str(ema)) == ema
    assert teachers.find_head(student) == run.path / "heads" / "student_head"
    assert teachers.find_head(ema) == run.path / "heads" / "momentum_head"
    with pytest.raises(ValueError, match="nowhere is neither a finished run, nor an encoder folder, nor a PyTorch"):
        teachers.find_teacher(str(tmp_path / "nowhere"))


def test_an_encoder_may_have_no_head(tmp_path):
    run = finished(tmp_path / "run", "momentum_head")
    assert teachers.find_head(run.encoder("student")) is None
    assert teachers.find_head(run.encoder("another")) is None
    # Not a run's: what lies two folders up is something else.
    assert teachers.find_head(run.path / "probes" / "ema") is None
    # Of an earlier version: weights, but nothing that rebuilds the head.
    (run.path / "heads" / "momentum_head" / "head.json").unlink()
    assert teachers.find_head(run.encoder("ema")) is None


@pytest.fixture
def conversions(monkeypatch, tmp_path):
    """Conversions of PyTorch files that are no PyTorch files; the runs lie in a folder of their own."""
    done = []

    def convert(file, folder, classifier):
        done.append((f"{file.name} and its classifier" if classifier else file.name, folder.as_posix()))
        finished(folder, "student_head")
        (folder / "import.json").write_text(json.dumps({"sha256": teachers.fingerprint(file)}))

    monkeypatch.setattr(imported_run, "convert", convert)
    monkeypatch.chdir(tmp_path)
    return done


def test_a_pytorch_file_is_converted_once(conversions, tmp_path, capsys):
    file = tmp_path / "moco_v2_800ep.pretrain.pth.tar"
    file.write_bytes(b"one")
    folder = "runs/imported/moco_v2_800ep.pretrain"
    found = teachers.find_teacher(str(file))
    assert found.as_posix() == f"{folder}/encoders/student"
    assert teachers.find_head(found).as_posix() == f"{folder}/heads/student_head"
    assert f"is converted into {folder}, once" in capsys.readouterr().out
    # Also under another path.
    (tmp_path / "elsewhere").mkdir()
    again = file.rename(tmp_path / "elsewhere" / file.name)
    assert teachers.find_teacher(str(again)) == found
    assert f"was converted earlier, into {folder}" in capsys.readouterr().out
    assert conversions == [(file.name, folder)]


def test_another_file_of_the_same_name_has_a_folder_of_its_own(conversions, tmp_path):
    file = tmp_path / "model.pth"
    for content in (b"one", b"two", b"one", b"two"):
        file.write_bytes(content)
        teachers.find_teacher(str(file))
    assert [folder.partition("-")[0] for _, folder in conversions] == ["runs/imported/model"] * 2
    assert conversions[1][1] == f"runs/imported/model-{teachers.fingerprint(file)[:8]}"
    for folder in (tmp_path / "runs" / "imported").iterdir():
        (folder / "import.json").unlink()
    with pytest.raises(ValueError, match="hold something else than .*: move them away"):
        teachers.find_teacher(str(file))


def test_a_pytorch_file_may_keep_its_classifier(conversions, tmp_path):
    file = tmp_path / "resnet34.pth"
    file.write_bytes(b"one")
    for classifier in (False, True, False, True):
        found = teachers.find_teacher(str(file), classifier)
        assert found.as_posix() == f"runs/imported/resnet34{'-classifier' * classifier}/encoders/student"
    assert [name for name, _ in conversions] == ["resnet34.pth", "resnet34.pth and its classifier"]


def test_the_teacher_is_the_one_that_is_named_or_that_of_stage_1(flags, tmp_path):
    run, before = finished(tmp_path / "run"), RunFolder(tmp_path / "stage1")
    before.path.mkdir()
    before.flags_file.write_text(f"--teacher={run.path}\n")
    assert teachers.named_teacher(before) == run.encoder("student")
    flags.teacher = str(run.encoder("ema"))
    assert teachers.named_teacher(before) == teachers.named_teacher(None) == run.encoder("ema")
    flags.teacher = None
    with pytest.raises(ValueError, match="--teacher is missing: .* trained on cifar10"):
        teachers.named_teacher(None)
    flags.dataset = "digits"
    assert teachers.named_teacher(None) is None


def test_a_teacher_that_has_changed_since_stage_1_is_refused_unless_it_is_named(flags, tmp_path):
    before = RunFolder(tmp_path)
    (tmp_path / "inputs.json").write_text(json.dumps({"teacher": "a", "teacher head": "b", "data": "c"}))
    teachers.refuse_another(before, tmp_path, {"teacher": "a", "teacher head": "b"})
    teachers.refuse_another(None, tmp_path, {"teacher": "other"})
    for inputs in ({"teacher": "x", "teacher head": "b"}, {"teacher": "a", "teacher head": "x"}):
        with pytest.raises(ValueError, match="is not the one of .*: its weights have changed"):
            teachers.refuse_another(before, tmp_path, inputs)
    flags.teacher = "another"
    teachers.refuse_another(before, tmp_path, {"teacher": "x"})


def test_licences_are_handed_on(tmp_path):
    run = finished(tmp_path / "run")
    folder = run.encoder("student")
    assert teachers.licence(folder) == f"Teacher: {folder}. Its licence is not recorded."
    run.licences_file.write_text("# Licences\n\n- Images: digits, CC BY 4.0.\n- More.\n")
    assert teachers.licence(folder) == f"Teacher: {folder}. Made of: Images: digits, CC BY 4.0. More."
