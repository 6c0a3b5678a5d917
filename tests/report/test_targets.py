import dataclasses
import re

import pytest

from larq_ssl.evaluation.fine_tuning import sweep, trial_names
from larq_ssl.evaluation.knn import knn_preset
from larq_ssl.evaluation.svm_machines import svm_preset
from larq_ssl.experiments.common import recipe_file
from larq_ssl.report.collect import collect
from larq_ssl.report.lines import lines
from larq_ssl.report.protocols import CACHED, matches
from larq_ssl.report.targets import altered, compare, targets
from larq_ssl.report.words import MISSING, comparison_cells
from tests.report.folders import linear_settings, write_probe, write_run

# Numbers of one network by several protocols and on several data sets, which no recipe's header has room for.
_TABLES = {"BSSL, Table 1, few labels", "BSSL, Table 3", "BSSL, Table 4", "S2-BNN, Table 5"}


@pytest.mark.parametrize("recipe", sorted({target.recipe for target in targets()}))
def test_the_number_is_the_one_that_the_recipe_says_to_reach(recipe):
    header = "".join(line for line in recipe_file(recipe).read_text().splitlines(keepends=True) if line[:1] == "#")
    for target in targets():
        if target.recipe == recipe and target.source not in _TABLES:
            written = (f"{100 * target.accuracy:.{digits}f}" for digits in (1, 2))
            assert any(re.search(rf"(?<![\d.]){re.escape(text)}(?!\d)", header) for text in written), target


def test_targets_are_full_names_with_sources():
    assert len(targets()) > 100
    for target in targets():
        assert len(target.metric.split("/")) >= 5
        assert 0 < target.accuracy < 1
        assert target.source
    assert len({(target.recipe, target.metric) for target in targets()}) == len(targets())


def recipe_flags(recipe):
    lines = [line for line in recipe_file(recipe).read_text().splitlines() if line.startswith("--")]
    pairs = (line.removeprefix("--").partition("=") for line in lines)
    return {name: value if equals else "True" for name, equals, value in pairs} | {"recipe": recipe}


def comparisons(run):
    return {comparison.target.metric: comparison for comparison in compare(lines(collect([run])))}


LINEAR = "linear/bssl/imagenet2012/augmented/last/top1"


def test_a_number_of_the_same_recipe_and_protocol_stands_beside_the_published_one(tmp_path):
    run = write_run(tmp_path / "run", recipe_flags("imagenet/bssl_paper_stage2"))
    measured = {"linear/bssl/imagenet2012_5.1.0/augmented/last/top1": 0.571, "linear/moco/imagenet2012/last/top1": 0.5}
    write_probe(run, "linear-bssl", measured, settings=linear_settings("bssl"))
    found = comparisons(run)
    linear = found[LINEAR]
    assert (linear.target.accuracy, linear.measured, linear.altered) == (pytest.approx(0.58), 0.571, ())
    assert linear.name == "linear/bssl/imagenet2012_5.1.0/augmented/last/top1"
    assert linear.comparable
    assert comparison_cells(linear)[5:] == ["57.1", ""]
    assert found["svm/voc07/voc_2007/full/map"].measured is None
    assert found["svm/voc07/voc_2007/full/map"].target.accuracy == pytest.approx(0.7749)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        (LINEAR, {"epochs": 5}, "epochs 5 (protocol: 100)"),
        (LINEAR, {"learning_rates": [0.1]}, "learning_rates [0.1] (protocol: "),
        (LINEAR, {"holdout_per_class": 50}, "holdout_per_class 50 (protocol: 0)"),
        (LINEAR, {"max_train_images": 1000}, "max_train_images 1000 (protocol: null)"),
        (LINEAR, {"image_size": 64}, "image_size 64 (protocol: 224)"),
        (LINEAR.replace("augmented/", ""), {"augmented": False}, CACHED),
    ],
)
def test_what_was_measured_otherwise_is_not_put_beside_it(tmp_path, name, changes, said):
    run = write_run(tmp_path / "run", recipe_flags("imagenet/bssl_paper_stage2"))
    write_probe(run, "linear-bssl", {name: 0.571}, settings=linear_settings("bssl", **changes))
    found = comparisons(run)[LINEAR]
    assert not found.comparable
    shown, remark = comparison_cells(found)[5:]
    assert shown == MISSING
    assert remark.startswith(f"57.1 was measured otherwise: {said}")


def test_augmented_views_win_over_cached_features(tmp_path):
    run = write_run(tmp_path / "run", recipe_flags("imagenet/bssl_paper_stage2"))
    write_probe(run, "a", {LINEAR: 0.56}, settings=linear_settings("bssl"))
    write_probe(run, "b", {LINEAR.replace("augmented/", ""): 0.6}, settings=linear_settings("bssl", augmented=False))
    assert comparisons(run)[LINEAR].measured == 0.56


@pytest.mark.parametrize(
    ("pattern", "name", "fits"),
    [
        (LINEAR, "linear/bssl/imagenet2012:5.1.0/augmented/last/top1", True),
        (LINEAR, "linear/bssl/imagenet2012_subset_1pct/augmented/last/top1", False),
        (LINEAR, "linear/bssl/imagenet2012/augmented/lr_30/last/top1", False),
        ("svm/voc07/voc_2007/full/map", "svm/voc07/voc_2007_4.0.0/full/map", True),
        ("svm/voc07/voc_2007/full/map", "svm/voc07/voc_folder/full/map", False),
        ("fine_tune/bssl/imagenet2012*/last/top1", "fine_tune/bssl/imagenet2012_subset_1pct/last/top1", True),
        ("fine_tune/bssl/imagenet2012*/last/top1", "fine_tune/bssl/imagenet2012/validation/last/top1", False),
    ],
)
def test_other_images_and_other_settings_have_another_name(pattern, name, fits):
    assert matches(pattern, name) is fits


def test_probes_of_the_other_protocols_are_looked_at_too(tmp_path):
    run = write_run(tmp_path / "run", recipe_flags("imagenet/bssl_paper_stage2"))
    runs = sweep("bssl", 0.01)
    trials = dict(zip(trial_names(runs), (trial.flags() for trial in runs), strict=True))
    few = {"semi_supervised/bssl/imagenet2012/1percent/last/top1": 0.35}
    write_probe(run, "few", few, settings={"image_size": 224, "runs": trials, "with_flags": []})
    svm = {**dataclasses.asdict(svm_preset("voc07")), "image_size": 224, "samples": 2}
    write_probe(
        run, "svm", {"svm_low_shot/voc07/voc_2007/1/map": 0.29, "svm/voc07/voc_2007/full/map": 0.7}, settings=svm
    )
    transfer = {**linear_settings("bssl"), "linear_preset": "bssl"}
    write_probe(run, "transfer", {"transfer/bssl/cifar10/augmented/last/top1": 0.78}, settings=transfer)
    found = comparisons(run)
    assert found["semi_supervised/bssl/imagenet2012*/1percent/last/top1"].comparable
    assert found["svm/voc07/voc_2007/full/map"].comparable
    assert found["svm_low_shot/voc07/voc_2007/1/map"].departures == ("samples 2 (protocol: 5)",)
    assert found["transfer/bssl/cifar10/augmented/last/top1"].comparable


def test_a_probe_of_another_folder_is_not_one_of_imagenet_100(tmp_path):
    name = "linear/bssl/folder/augmented/last/top1"
    for train, departures in (("d2", ("other images than those of the run",)), ("d1", ())):
        run = write_run(tmp_path / train, {**recipe_flags("imagenet100/bssl_paper_stage2"), "data_dir": "photos"})
        (run / "inputs.json").write_text('{"data": "d1"}')
        write_probe(run, train, {name: 0.7}, settings=linear_settings("bssl", train=train))
        assert comparisons(run)[name].departures == departures
    assert comparison_cells(comparisons(run)[name])[6] == "on the images in photos"


def test_the_encoder_that_the_protocol_looks_at_stands_there(tmp_path):
    run = write_run(tmp_path / "run", recipe_flags("imagenet/dino_official_resnet_50"), encoders={"ema": "e" * 16})
    knn = {**dataclasses.asdict(knn_preset("dino")), "image_size": 224}
    name = "knn/dino/imagenet2012/20/top1"
    write_probe(run, "knn-dino", {name: 0.7}, settings=knn)
    assert comparisons(run)[name].departures == ("of the student (protocol: ema)",)
    write_probe(run, "knn-dino-ema", {name: 0.66}, digest="e" * 16, settings=knn)
    found = comparisons(run)
    assert len(found) == len(compare(lines(collect([run])))) == 2
    assert (found[name].measured, found[name].comparable) == (0.66, True)
    assert found["linear/dino/imagenet2012/augmented/best/top1"].measured is None


def test_another_recipe_has_no_target(tmp_path):
    run = write_run(tmp_path / "run", {"recipe": "digits/bssl_stage2"})
    assert compare(lines(collect([run, write_run(tmp_path / "none")]))) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"epochs": "20"}, "--epochs=20 (recipe: 200)"),
        ({"width": "0.5"}, "--width=0.5"),
        ({"max_train_images": "1000"}, "--max_train_images=1000"),
        ({"optimizer": "sgd"}, "--optimizer=sgd (recipe: adam)"),
    ],
)
def test_a_run_that_departs_from_its_recipe_is_said_to(change, said):
    own = recipe_flags("imagenet/bssl_paper_stage2")
    assert altered("imagenet/bssl_paper_stage2", own | {"lr": "0.0003", "workdir": "/x", "width": "1.0"}) == ()
    assert altered("imagenet/bssl_paper_stage2", own | change) == (said,)
    assert altered("imagenet/gone", own) == ("the recipe is not there any more",)
