"""Two processes take the steps that one takes on whole batches."""

import functools
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import methods
from tests.methods import team, tiny

ROOT = pathlib.Path(__file__).parents[2]
# Of half a batch on each replica, or of a part of it; the others are of the whole batch, or a mean over its images.
PER_REPLICA = {"embedding_std", "class_usage"}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """What two processes made of a case: arrays by their names. Slow cases are trained by a pair of their own."""

    @functools.cache
    def folder(quick):
        place = tmp_path_factory.mktemp("team")
        names = [name for name in (*team.CASES, *team.BINARY) if (name in team.QUICK) == quick]
        command = [sys.executable, "-m", "tests.methods.team", str(place), *names]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=team.SECONDS + 60)
        assert done.returncode == 0, done.stderr
        return place

    def arrays(name, index):
        with np.load(folder(name == "gathered" or name in team.QUICK) / f"{name} {index}.npz") as held:
            return dict(held)

    return arrays


def _cases(cases):
    return [pytest.param(name, marks=[] if name in team.QUICK else pytest.mark.slow) for name in cases]


CASES = _cases(team.CASES)


def _at(arrays, step):
    """The state after a step, by its names."""
    return {key.partition("/")[2]: value for key, value in arrays.items() if key.startswith(f"{step}/")}


def _metrics(arrays, first):
    return {key.partition("/")[2]: value for key, value in arrays.items() if key.startswith(f"metrics {first}/")}


def _set(method, values):
    """Gives a method the variables of another."""
    for key, weight in team.weights(method).items():
        weight.assign(values[key])


@pytest.mark.parametrize("name", CASES)
def test_two_processes_take_the_same_steps(name, trained):
    case, theirs = team.CASES[name], trained(name, 0)
    single = case.method()
    _set(single, _at(theirs, 0))
    for first, last, tolerance in ((0, 1, 1e-5), (1, team.STEPS, 1e-4)):
        history = tiny.trained(single, case.batches(range(first, last)))
        tiny.assert_close(_at(theirs, last), team.state(single), tolerance)
        metrics = _metrics(theirs, first)
        assert metrics.keys() == history[0].keys()
        for key in set(metrics) - PER_REPLICA:
            expected = [terms[key] for terms in history]
            np.testing.assert_allclose(metrics[key], expected, rtol=1e-3, atol=1e-5, err_msg=key)
    before, after = _at(theirs, 0), _at(theirs, team.STEPS)
    moved = {key.partition("/")[0] for key in before if not np.array_equal(before[key], after[key])}
    assert moved >= set(single.optimized)


def _watch_signs(method):
    """A list that gets, with each call of a network, how far what is binarised is from a flip."""
    margins = []

    def watched(call, *given, **options):
        values = call(*given, **options)
        margins.append(float(tf.reduce_min(tf.abs(values))))
        return values

    for network in method.networks.values():
        for layer in network.layers:
            if layer.name in tiny.BINARISED:
                layer.call = functools.partial(watched, layer.call)
    return margins


@pytest.mark.parametrize("name", _cases(team.BINARY))
def test_binary_networks_take_the_same_step_where_no_sign_is_near_its_flip(name, trained):
    case, theirs = team.BINARY[name], trained(name, 0)
    before, after, single = _at(theirs, 0), _at(theirs, 1), case.method()
    _set(single, before)
    margins = _watch_signs(single)
    (terms,) = tiny.trained(single, case.batches(range(1)))
    assert margins
    assert min(margins) > 1e-5
    assert single.variables_without_gradient() == []
    steps = {key: weight.numpy() - before[key] for key, weight in team.weights(single).items()}
    # What a BatchNorm behind it takes away, such as a bias, has a gradient of zero, and steps of rounding alone.
    rounding = 1e-6 * max(np.abs(step).max() for step in steps.values())
    for key, step in steps.items():
        near = max(tiny.NEAR[case.binary] * np.abs(step).max(), rounding)
        np.testing.assert_allclose(after[key] - before[key], step, rtol=0, atol=near, err_msg=key)
    for key in terms.keys() - PER_REPLICA:
        assert _metrics(theirs, 0)[key] == pytest.approx([terms[key]], rel=1e-3, abs=1e-5), key
    moved = {key.partition("/")[0] for key in before if not np.array_equal(before[key], after[key])}
    assert moved >= set(single.optimized)


@pytest.mark.parametrize("name", [*CASES, *_cases(team.BINARY)])
def test_both_processes_have_the_same_variables(name, trained):
    tiny.assert_identical(trained(name, 1), trained(name, 0))


def test_values_of_every_type_are_gathered(trained):
    for index in range(team.WORKERS):
        found = trained("gathered", index)
        assert found.keys() == {kind.name for kind in team.GATHERED}
        for name, values in found.items():
            np.testing.assert_array_equal(values, [0, 1, 1, 1], err_msg=name)


def test_every_method_is_among_them():
    kinds = {name: getattr(methods, name) for name in methods.__all__ if name != "SelfSupervisedModel"}
    made = [case.method() for case in team.CASES.values()]
    assert {type(method).__name__ for method in made} == set(kinds)
    assert {type(case.method()).__name__ for case in team.BINARY.values()} == set(kinds)
    # In parts, too, whoever can do it: a method that never can says so once for all.
    can = {name for name, kind in kinds.items() if kind.allows_accumulation is not False}
    assert {type(method).__name__ for method in made if method.accumulate > 1} == can
