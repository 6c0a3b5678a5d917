"""Which run of a sweep is chosen, and what is reported."""

import pytest

from larq_ssl.evaluation.sweeps import Outcome, accuracies, choose, sweep_metrics


def outcome(name: str, last: float, best: float = 0.9, epoch: float = 2.0) -> Outcome:
    metrics = {"last/top1": last, "last/top5": last + 0.05, "best/top1": best, "best/top5": 0.95, "best/epoch": epoch}
    return Outcome(name, metrics | {"loss": 3.0})


def test_the_last_epoch_decides_then_the_best_one_then_the_order():
    runs = [outcome("a", 0.5, 0.99), outcome("b", 0.6, 0.7), outcome("c", 0.6, 0.8), outcome("d", 0.6, 0.8)]
    assert choose(runs).name == "c"
    assert choose([*runs, Outcome("e", None)]).name == "c"
    assert choose([Outcome("zero", None), outcome("f", 0.0, 0.0)]).name == "f"


def test_all_runs_are_reported_beside_the_chosen_one():
    metrics = sweep_metrics([outcome("a", 0.5, epoch=7.0), outcome("b", 0.6), Outcome("c", None)])
    chosen = {"last/top1": 0.6, "last/top5": 0.65, "best/top1": 0.9, "best/top5": 0.95, "best/epoch": 2.0}
    assert {name: value for name, value in metrics.items() if name.count("/") == 1 and name[1] != "/"} == pytest.approx(
        chosen
    )
    assert {f"b/{name}": value for name, value in chosen.items()}.items() <= metrics.items()
    assert (metrics["a/last/top1"], metrics["a/best/epoch"]) == (0.5, 7.0)
    assert [metrics[f"{name}/diverged"] for name in "abc"] == [0, 0, 1]
    assert "c/last/top1" not in metrics
    assert "loss" not in "".join(metrics)


def test_of_several_labels_the_mean_average_precision_decides():
    measures = ("map", "map_eleven_points")
    reported = ("last/map", "last/map_eleven_points", "best/map", "best/map_eleven_points")
    assert accuracies(measures) == reported
    assert accuracies() == ("last/top1", "last/top5", "best/top1", "best/top5")
    runs = [
        Outcome(name, dict(zip(reported, numbers, strict=True)) | {"best/epoch": 3.0})
        for name, numbers in (("a", (0.5, 0.9, 0.8, 0.9)), ("b", (0.6, 0.1, 0.7, 0.1)), ("c", (0.6, 0.2, 0.65, 0.2)))
    ]
    assert choose(runs, measures).name == "b"
    metrics = sweep_metrics(runs, measures)
    assert {name: metrics[name] for name in reported} == dict(zip(reported, (0.6, 0.1, 0.7, 0.1), strict=True))
    assert (metrics["a/last/map"], metrics["c/best/epoch"], metrics["c/diverged"]) == (0.5, 3.0, 0)


def test_one_run_is_not_reported_twice():
    assert set(sweep_metrics([outcome("only", 0.5)])) == {
        *("last/top1", "last/top5", "best/top1", "best/top5", "best/epoch")
    }


def test_nothing_is_chosen_where_all_diverged():
    with pytest.raises(ValueError, match=r"All runs of the sweep diverged \(a, b\)"):
        sweep_metrics([Outcome("a", None), Outcome("b", None)])
