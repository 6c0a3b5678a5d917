import contextlib
import itertools
import json

import numpy as np
import pytest

from larq_ssl.evaluation import low_shot as low_shot_module
from larq_ssl.evaluation import svm as svm_module
from larq_ssl.evaluation.examples import Examples, check_test, check_train, examples, normalise, signs
from larq_ssl.evaluation.features import Features
from larq_ssl.evaluation.low_shot import low_shot, summary
from larq_ssl.evaluation.low_shot_draws import Draw, draw
from larq_ssl.evaluation.svm import svm
from larq_ssl.evaluation.svm_machines import SvmPreset, svm_preset
from tests import golden

QUICK = SvmPreset("quick", costs=(1.0, 0.1, 0.01))


@pytest.fixture(scope="module")
def official():
    return golden.load("q8_probes")


def named(features, presence):
    return Examples(features, presence.astype(np.int8), tuple(f"class {i}" for i in range(presence.shape[1])))


def official_sets(arrays, kind):
    return [named(arrays[f"{kind}_{part}_features"], arrays[f"{kind}_{part}_labels"]) for part in ("train", "test")]


def made(images=60, classes=3, seed=0, noise=1.0):
    """Images whose first features say what is in them."""
    rng = np.random.default_rng(seed)
    presence = rng.choice([1, 0, -1], (images, classes), p=[0.4, 0.5, 0.1])
    features = rng.normal(size=(images, classes + 3)) * noise
    features[:, :classes] += 3 * (presence == 1) - 1
    return named(features.astype(np.float32), presence)


def test_normalisation_is_the_official_one(official):
    found = normalise(official["norm_in"])
    np.testing.assert_allclose(found, official["norm_out"], rtol=1e-14, atol=0)
    assert found.dtype == normalise(np.float32(official["norm_in"])).dtype == np.float64


def test_the_official_svms(official):
    train, test = official_sets(official, "svm")
    preset = svm_preset("voc07")
    assert preset.costs == pytest.approx(official["svm_costs"])
    result = svm(train, test, preset, jobs=1)
    np.testing.assert_allclose(result.cross_validation, official["svm_crossval_ap"], rtol=0, atol=1e-2)
    np.testing.assert_allclose(result.costs, official["svm_chosen_cost"], rtol=1e-12)
    precisions = [result.metrics[f"full/ap/{name}"] for name in test.names]
    np.testing.assert_allclose(precisions, official["svm_test_ap_per_class"], rtol=0, atol=2e-3)
    assert result.metrics["full/map"] == pytest.approx(float(official["svm_test_map"]), abs=2e-3)
    np.testing.assert_allclose(result.coefficients[:1], official["svm_class0_coef"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(result.intercepts[:1], official["svm_class0_intercept"], rtol=0, atol=1e-4)
    scores = normalise(test.features) @ result.coefficients[0] + result.intercepts[0]
    np.testing.assert_allclose(scores, official["svm_class0_decision_test"], rtol=0, atol=1e-4)


def test_the_official_svms_of_few_images(official, monkeypatch):
    train, test = official_sets(official, "low")
    ks, stored = [int(k) for k in official["low_k"]], official["low_targets_sample_k"]
    preset, samples = svm_preset("voc07"), len(stored)
    drawn = {}
    for sample, k in itertools.product(range(samples), range(len(ks))):
        kinds = ([np.flatnonzero(column == value) for column in stored[sample, k].T] for value in (1, 0))
        drawn[ks[k], sample] = official_draw = Draw(*(np.stack(rows) for rows in kinds))
        # As many as we draw.
        own = draw(train.presence, ks[k], seed=0, sample=sample)
        for kind in ("positives", "negatives"):
            assert getattr(own, kind).shape == getattr(official_draw, kind).shape
    monkeypatch.setattr(low_shot_module, "draw", lambda presence, k, seed, sample: drawn[k, sample])
    result = low_shot(train, test, preset, ks, samples, jobs=1)
    np.testing.assert_allclose(result.maps, official["low_test_map_sample_k_cost"], rtol=0, atol=2e-3)
    found = summary(official["low_test_map_sample_k_cost"], ks, preset.costs)
    ours = result.metrics
    for k, cost, mean, std in zip(
        ks,
        official["low_chosen_cost_per_k"],
        official["low_reported_mean"],
        official["low_reported_population_std"],
        strict=True,
    ):
        assert [found[f"{k}/{name}"] for name in ("cost", "map", "map_std")] == pytest.approx([cost, mean, std])
        assert ours[f"{k}/map"] == pytest.approx(mean, abs=2e-3)


def test_difficult_is_negative_in_training_and_not_tested():
    presence = np.array([[1, 0, -1]], np.int8)
    assert signs(presence).tolist() == [[1, -1, -1]]
    train, test = made(seed=0), made(seed=1)
    result = svm(train, test, QUICK, jobs=1)
    as_negative = Examples(train.features, np.maximum(train.presence, 0), train.names)
    assert svm(as_negative, test, QUICK, jobs=1).metrics == result.metrics
    tested = Examples(test.features, np.maximum(test.presence, 0), test.names)
    assert svm(train, tested, QUICK, jobs=1).metrics["full/map"] != result.metrics["full/map"]


def test_what_can_be_learned_is_learned_and_scale_does_not_matter():
    train, test = made(seed=0, noise=0.05), made(seed=1, noise=0.05)
    metrics = svm(train, test, QUICK, jobs=1).metrics
    assert metrics["full/map"] > 0.95
    assert metrics["full/map_eleven_points"] > 0.95
    assert "full/top1" not in metrics
    large = [Examples(part.features * 1e6, part.presence, part.names) for part in (train, test)]
    small = [Examples(part.features * 1e5, part.presence, part.names) for part in (train, test)]
    assert svm(*large, QUICK, jobs=1).metrics == pytest.approx(svm(*small, QUICK, jobs=1).metrics)
    few = low_shot(train, test, QUICK, (1, 8), 2, jobs=1).metrics
    assert few["8/map"] > 0.9
    assert few.keys() == {f"{k}/{name}" for k in (1, 8) for name in ("map", "map_std", "cost")}


def test_processes_do_not_matter():
    train, test = made(), made(seed=1)
    alone, together = (svm(train, test, QUICK, seed=3, jobs=jobs) for jobs in (1, 2))
    assert alone.metrics == together.metrics
    np.testing.assert_array_equal(alone.coefficients, together.coefficients)
    few = [low_shot(train, test, QUICK, (2,), 1, seed=3, jobs=jobs) for jobs in (1, 2)]
    np.testing.assert_array_equal(few[0].maps, few[1].maps)


def counting(monkeypatch, module, stop_after=None):
    """Counts the SVMs (or cross-validations) of a module, and interrupts it after so many."""
    counts = [0]
    original = module.in_parallel

    def in_parallel(tasks, jobs):
        for result in original(tasks, jobs):
            if counts[0] == stop_after:
                raise KeyboardInterrupt
            counts[0] += 1
            yield result

    monkeypatch.setattr(module, "in_parallel", in_parallel)
    return counts


@pytest.mark.parametrize("protocol", ["full", "few"])
def test_it_goes_on_where_it_was_stopped(protocol, monkeypatch, tmp_path):
    train, test = made(), made(seed=1)

    def measure(cache_dir):
        done = []
        arguments = {"jobs": 1, "cache_dir": cache_dir, "progress": lambda *p: done.append(p)}
        if protocol == "full":
            return svm(train, test, QUICK, **arguments).metrics, done
        return low_shot(train, test, QUICK, (1, 2), 2, **arguments).metrics, done

    module = svm_module if protocol == "full" else low_shot_module
    whole, progress = measure(None)
    # Nine of a class or draw each, and at the end of `svm` the three that are tested; stopped in the second one.
    per_part, parts, last = (3, 3, 3) if protocol == "full" else (9, 4, 0)
    assert progress == [(i + 1, per_part * parts) for i in range(per_part * parts)]
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        counting(patch, module, stop_after=per_part + 2)
        measure(tmp_path)
    with monkeypatch.context() as patch:
        counts = counting(patch, module)
        again, progress = measure(tmp_path)
        assert counts[0] == (parts - 1) * per_part + last
    assert again == whole
    assert progress[0] == (per_part + 1, per_part * parts)
    (file,) = tmp_path.iterdir()
    # Other images are another measurement; a damaged file is measured again.
    svm(test, train, QUICK, jobs=1, cache_dir=tmp_path)
    assert len(list(tmp_path.iterdir())) == 2
    file.write_bytes(file.read_bytes()[:100])
    with pytest.warns(UserWarning, match="measured again"):
        assert measure(tmp_path)[0] == whole


def test_one_label_per_image():
    from larq_ssl.data import datasets

    data = datasets.load_dataset("digits", limit=60)
    rows = np.arange(60)[::-1]
    features = Features(data.images.reshape(60, -1)[rows].astype(np.float32), data.labels()[rows], rows)
    found = examples(features, data)
    np.testing.assert_array_equal(found.presence.argmax(axis=1), data.labels()[rows])
    metrics = svm(found, found, SvmPreset("quick", costs=(10.0,)), jobs=1).metrics
    assert metrics["full/top1"] == 1.0
    assert metrics["full/map"] == 1.0
    assert metrics["full/cost/3"] == 10.0
    json.dumps(metrics, allow_nan=False)


def test_mistakes_are_named():
    train, test = made(), made(seed=1)
    nobody = Examples(test.features, np.where(np.arange(3) == 1, 0, test.presence), test.names)
    with pytest.raises(ValueError, match="'class 1' is in none of the 60 test images"):
        svm(train, nobody, QUICK)
    with pytest.raises(ValueError, match="'class 1' is in none"):
        check_test(nobody.presence, nobody.names)
    with pytest.raises(ValueError, match="'class 1' is in 0 of the 60 training images.*at least 3"):
        svm(nobody, test, QUICK)
    everywhere = np.ones((9, 1), np.int8)
    everywhere[0] = -1
    with pytest.raises(ValueError, match="'a' is in 8 of the 9.*at least 2 without it"):
        check_train(everywhere, ("a",), 3)
    narrow = Examples(test.features[:, :4], test.presence, test.names)
    with pytest.raises(ValueError, match="equal size, got 6 and 4"):
        svm(train, narrow, QUICK)
    with pytest.raises(ValueError, match="must have the classes of `train`"):
        low_shot(train, Examples(test.features, test.presence, ("x", "y", "z")), QUICK)
    with pytest.raises(ValueError, match=r"`presence` must be \[images, classes\] = \(60, 2\)"):
        Examples(test.features, test.presence, ("x", "y"))
    with pytest.raises(ValueError, match="`ks` asks for 1000 images of the class 'class 0'"):
        low_shot(train, test, QUICK, (2, 1000))
    with pytest.raises(ValueError, match="`ks` must be different numbers"):
        low_shot(train, test, QUICK, (2, 2))
    with pytest.raises(ValueError, match="`samples` must be at least 1"):
        low_shot(train, test, QUICK, (2,), 0)
    with pytest.raises(ValueError, match="one class is in none"):
        low_shot(nobody, test, QUICK)
    with pytest.raises(ValueError, match="`preset` must be one of"):
        svm_preset("voc12")
    with pytest.raises(ValueError, match="`costs` must be different numbers above 0"):
        svm_preset("voc07", costs=(1.0, 0.0))
    with pytest.raises(ValueError, match="`folds` must be at least 2"):
        svm_preset("voc07", folds=1)
