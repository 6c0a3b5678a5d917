import re

import pytest

from larq_ssl.experiments.common import recipe_file
from larq_ssl.report.collect import collect
from larq_ssl.report.lines import lines
from larq_ssl.report.targets import altered, compare, targets
from tests.report.folders import write_probe, write_run

# Numbers of one network by several protocols and on several data sets, which no recipe's header has room for.
_TABLES = {"BSSL, Table 1, few labels", "BSSL, Table 3", "BSSL, Table 4"}


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


def test_a_number_of_the_same_recipe_and_protocol_stands_beside_the_published_one(tmp_path):
    run = write_run(tmp_path / "run", recipe_flags("imagenet/bssl_paper_stage2"))
    write_probe(
        run,
        "linear-bssl",
        {"linear/bssl/imagenet2012_5.1.0/last/top1": 0.571, "linear/moco/imagenet2012/last/top1": 0.5},
    )
    found = {comparison.target.metric: comparison for comparison in compare(lines(collect([run])))}
    linear = found["linear/bssl/imagenet2012*/last/top1"]
    assert (linear.target.accuracy, linear.measured, linear.altered) == (pytest.approx(0.58), 0.571, ())
    assert linear.name == "linear/bssl/imagenet2012_5.1.0/last/top1"
    assert found["svm/voc07/voc*/full/map"].measured is None
    assert found["svm/voc07/voc*/full/map"].target.accuracy == pytest.approx(0.7749)


def test_the_encoder_that_was_measured_stands_there(tmp_path):
    run = write_run(tmp_path / "run", recipe_flags("imagenet/dino_official_resnet_50"), encoders={"ema": "e" * 16})
    write_probe(run, "knn-dino-ema", {"knn/dino/imagenet2012/20/top1": 0.66}, digest="e" * 16)
    found = {comparison.target.metric: comparison for comparison in compare(lines(collect([run])))}
    assert len(found) == len(compare(lines(collect([run])))) == 2
    assert (
        found["knn/dino/imagenet2012*/20/top1"].measured,
        found["linear/dino/imagenet2012*/best/top1"].measured,
    ) == (
        0.66,
        None,
    )


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
