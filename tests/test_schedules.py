"""Schedules: the released codes' values, exact ends, and what is refused."""

import numpy as np
import pytest
import tensorflow as tf

from larq_ssl import schedules
from tests import golden


def _values(schedule, steps):
    """In float64, where the arrays are."""
    return np.array([schedule.value(tf.constant(step, tf.float64)).numpy() for step in steps], np.float64)


@pytest.fixture(scope="module")
def arrays():
    return golden.load("o5_optim")


@pytest.mark.parametrize(
    ("key", "final", "warm"),
    [
        ("cosine_warmup", 0.0048, True),
        ("cosine_warmup_swav_sslight", 0.0048, True),
        ("swav_b4096", 0.0048, True),
        ("weight_decay", 0.4, False),
        ("ema", 1.0, False),
    ],
)
def test_warmup_cosine_equals_the_official_array(arrays, key, final, warm):
    epochs, steps, warmup = (int(n) for n in arrays["schedule/args_epochs_iters_warmup"])
    expected = arrays[f"schedule/{key}"]
    warmup_steps = warmup * steps * warm
    start, base = float(expected[0]), float(expected[warmup_steps])
    schedule = schedules.WarmupCosine(base, final, epochs * steps, warmup_steps, start)
    np.testing.assert_allclose(_values(schedule, range(len(expected))), expected, rtol=0, atol=1e-12)
    assert float(schedule(epochs * steps)) == np.float32(final)
    assert float(schedule(10 * epochs * steps)) == np.float32(final)


def test_warmup_of_one_step_is_its_start():
    schedule = schedules.WarmupCosine(2.0, 0.0, 10, 1, 0.5)
    np.testing.assert_allclose([float(schedule(0)), float(schedule(1))], [0.5, 2.0])


def test_burn_learning_rate(arrays):
    epochs, steps, warmup = (int(n) for n in arrays["schedule/burn/args_epochs_iters_warmup_epochs"])
    base, ratio = arrays["schedule/burn/base_lr_warmup_ratio"]
    schedule = schedules.EpochCosine(float(base), epochs, steps, warmup, float(ratio))
    values = _values(schedule, arrays["schedule/burn/iterations"])
    np.testing.assert_allclose(values, arrays["schedule/burn/lr"], rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("key", "make"),
    [
        ("moco_cosine", lambda values, steps: schedules.EpochCosine(values[0], len(values), steps)),
        ("s2bnn_linear", lambda values, steps: schedules.LinearDecay(values[0], len(values), steps)),
        (
            "reactnet_linear_128",
            lambda values, steps: schedules.LinearDecay(2 * values[0] - values[1], len(values), steps, 1),
        ),
    ],
)
def test_schedules_per_epoch(arrays, key, make):
    expected = arrays[f"schedule/{key}"]
    steps = 5
    schedule = make(expected.tolist(), steps)
    for offset in (0, steps - 1):
        values = _values(schedule, steps * np.arange(len(expected)) + offset)
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=1e-18)
    after = _values(schedule, [steps * len(expected), 100 * steps * len(expected)])
    np.testing.assert_allclose(after, [expected[-1]] * 2, rtol=1e-12, atol=1e-18)


def test_cosine_of_epochs_that_count_from_1():
    """InfoMin's: floor + (base - floor) (1 + cos(pi e / E)) / 2 for e = 1 ... E, a thousandth at the end."""
    schedule = schedules.EpochCosine(0.03, 4, 5, final=3e-5, offset=1)
    expected = [3e-5 + 0.02997 * (1 + np.cos(np.pi * epoch / 4)) / 2 for epoch in (1, 2, 3, 4)]
    assert expected[-1] == 3e-5
    for offset in (0, 4):
        np.testing.assert_allclose(_values(schedule, 5 * np.arange(4) + offset), expected, rtol=1e-12)
    assert float(schedule(1000)) == np.float32(3e-5)


def test_a_cosine_of_epochs_may_end_above_zero():
    epochs, steps, final = 4, 3, 0.2
    schedule = schedules.EpochCosine(1.0, epochs, steps, final=final)
    values = _values(schedule, range(epochs * steps)).reshape(epochs, steps)
    expected = final + (1 - final) * (1 + np.cos(np.pi * np.arange(epochs) / epochs)) / 2
    np.testing.assert_allclose(values, np.tile(expected[:, None], steps), rtol=1e-12)
    with pytest.raises(ValueError, match="final of a schedule must be finite and not negative, got -1"):
        schedules.EpochCosine(1.0, epochs, steps, final=-1)


@pytest.mark.parametrize(
    ("key", "start", "final", "warmup"),
    [("50_100", 0.04, 0.07, 50), ("30_100", 0.04, 0.07, 30), ("default", 0.04, 0.04, 0)],
)
def test_temperature_of_dinos_teacher(arrays, key, start, final, warmup):
    expected = arrays[f"schedule/dino_teacher_temp_{key}"]
    steps = 5
    schedule = schedules.EpochRamp(start, final, warmup, steps)
    for offset in (0, steps - 1):
        values = _values(schedule, steps * np.arange(len(expected)) + offset)
        np.testing.assert_allclose(values, expected, rtol=1e-12, atol=0)
    assert _values(schedule, [steps * len(expected), 10**6]).tolist() == [final, final]


@pytest.mark.parametrize(("epochs", "expected"), [(0, [9, 9, 9]), (1, [9, 9, 9]), (2, [1, 9, 9]), (3, [1, 5, 9])])
def test_short_ramps(epochs, expected):
    schedule = schedules.EpochRamp(1.0, 9.0, epochs, 4)
    assert _values(schedule, [3, 4, 8]).tolist() == expected
    np.testing.assert_allclose(_values(schedules.EpochRamp(9.0, 1.0, epochs, 4), [3, 4, 8]), 10 - np.array(expected))


def test_simclr():
    arrays = golden.load("s6_simclr")
    count = sum(key.endswith("_warmup_total") for key in arrays)
    assert count > 1
    for index in range(count):
        rate, is_sqrt, batch, images, epochs, warmup_epochs = arrays[f"sched{index}_cfg"]
        warmup, total = schedules.simclr_steps(int(images), int(batch), int(epochs), int(warmup_epochs))
        assert [warmup, total] == arrays[f"sched{index}_warmup_total"].tolist()
        base = schedules.simclr_base(float(rate), int(batch), "sqrt" if is_sqrt else "linear")
        schedule = schedules.SimCLRCosine(base, total, warmup)
        values = [float(schedule(step)) for step in arrays[f"sched{index}_steps"]]
        np.testing.assert_allclose(values, arrays[f"sched{index}_lr"], rtol=1e-5, atol=1e-7)


def test_a_warmup_of_simclr_may_be_a_share_of_an_epoch():
    assert schedules.simclr_steps(1000, 64, 6, 0.5) == (7, 94)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_byol(case):
    arrays = golden.load("s6_byol_msbreg")
    start, total = arrays[f"ema{case}_cfg"]
    momentum = schedules.WarmupCosine(float(start), 1.0, int(total))
    np.testing.assert_allclose(_values(momentum, arrays[f"ema{case}_steps"]), arrays[f"ema{case}_tau"], atol=1e-12)
    rate, batch, total, warmup = arrays[f"lr{case}_cfg"]
    base = schedules.simclr_base(float(rate), int(batch), "linear")
    schedule = schedules.SimCLRCosine(base, int(total), int(warmup))
    expected = arrays[f"lr{case}_lr"]
    np.testing.assert_allclose(_values(schedule, arrays[f"lr{case}_steps"]), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("key", "interval"), [("every_iteration", 1), ("interval_2", 2)])
def test_balance_equals_the_official_hook(key, interval):
    expected = golden.load("l4_losses")[f"burn/lambda_schedule/{key}"]
    schedule = schedules.Balance(len(expected), interval=interval)
    np.testing.assert_allclose(1 - _values(schedule, range(len(expected))), expected, rtol=0, atol=1e-12)


def test_balance_at_its_ends_and_quarters():
    schedule = schedules.Balance(400)
    steps = [0, 100, 200, 300, 400, 500]
    np.testing.assert_allclose(_values(schedule, steps), [0.9, 0.870711, 0.8, 0.729289, 0.7, 0.7], rtol=0, atol=1e-6)
    assert float(schedule(0)) == np.float32(0.9)
    assert float(schedule(400)) == np.float32(0.7)


def test_balance_of_the_ablations():
    constant, step = (schedules.Balance(10, kind=kind) for kind in ("constant", "step"))
    assert _values(constant, [0, 5, 10]).tolist() == [0.7, 0.7, 0.7]
    assert _values(step, [0, 4, 5, 10]).tolist() == [1, 1, 0, 0]
    assert _values(schedules.Balance(10, start=0.5, kind="constant"), [3]).tolist() == [0.5]


def test_step_decay_changes_at_its_boundaries():
    schedule = schedules.StepDecay(30.0, (60, 80))
    np.testing.assert_allclose(_values(schedule, [0, 59, 60, 79, 80, 1000]), [30, 30, 3, 3, 0.3, 0.3])


SCHEDULES = [
    schedules.WarmupCosine(1.0, 0.1, 20, 5, 0.2),
    schedules.EpochCosine(1.0, 4, 5, 1),
    schedules.EpochCosine(1.0, 4, 5, 1, 0.5, 0.1, 1),
    schedules.LinearDecay(1.0, 4, 5, 1),
    schedules.StepDecay(1.0, (5, 10), 0.5),
    schedules.SimCLRCosine(1.0, 20, 5),
    schedules.EpochRamp(0.04, 0.07, 3, 5),
    schedules.EpochRamp(0.04, 0.07, 0, 5),
    schedules.Balance(20, interval=2),
    schedules.Balance(20, kind="step"),
]


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
def test_schedule_serialises_and_works_in_a_graph(schedule):
    config = tf.keras.optimizers.schedules.serialize(schedule)
    again = tf.keras.optimizers.schedules.deserialize(config)
    assert type(again) is type(schedule)
    steps = tf.range(30, dtype=tf.int64)
    in_graph = tf.function(again)
    values = np.array([in_graph(step).numpy() for step in steps])
    assert values.dtype == np.float32
    assert values.tolist() == [float(schedule(int(step))) for step in steps]
    assert np.isfinite(values).all()


def test_values_are_exact_beyond_what_float32_can_count():
    total = 3 * 2**24
    schedule = schedules.WarmupCosine(1.0, 0.0, total, total - 2)
    step = 2**24 + 1
    assert float(schedule(tf.constant(step, tf.int64))) == np.float32(step / (total - 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: schedules.WarmupCosine(-1.0, 0.0, 10), "base .* -1.0"),
        (lambda: schedules.WarmupCosine(1.0, float("nan"), 10), "final .* nan"),
        (lambda: schedules.WarmupCosine(1.0, 0.0, 0), "total_steps .* 0"),
        (lambda: schedules.WarmupCosine(1.0, 0.0, 10, 10), r"warmup_steps .* total_steps \(10\), got 10"),
        (lambda: schedules.EpochCosine(1.0, 5, 10, 6), r"warmup_epochs .* epochs \(5\), got 6"),
        (lambda: schedules.EpochCosine(1.0, 5, 0), "steps_per_epoch .* 0"),
        (lambda: schedules.EpochCosine(1.0, 5, 10, final=-0.1), "final .* -0.1"),
        (lambda: schedules.EpochCosine(1.0, 5, 10, offset=2), "offset must be 0 or 1, got 2"),
        (lambda: schedules.LinearDecay(1.0, 0, 10), "epochs .* 0"),
        (lambda: schedules.LinearDecay(1.0, 5, 10, 2), "offset must be 0 or 1, got 2"),
        (lambda: schedules.EpochRamp(-0.1, 0.1, 2, 5), "start .* -0.1"),
        (lambda: schedules.EpochRamp(0.1, 0.1, -2, 5), "epochs .* -2"),
        (lambda: schedules.EpochRamp(0.1, 0.1, 2, 0), "steps_per_epoch .* 0"),
        (lambda: schedules.StepDecay(1.0, (20, 10)), r"boundaries_in_steps .* \[20, 10\]"),
        (lambda: schedules.StepDecay(1.0, (0,)), r"boundaries_in_steps .* \[0\]"),
        (lambda: schedules.SimCLRCosine(1.0, 10, -1), "warmup_steps .* -1"),
        (lambda: schedules.simclr_base(1.0, 256, "cubic"), "scaling .* 'cubic'"),
        (lambda: schedules.Balance(0), "total_steps .* 0"),
        (lambda: schedules.Balance(10, kind="linear"), "kind .* cosine, constant, step, got 'linear'"),
        (lambda: schedules.Balance(10, start=1.5), "start .* 1.5"),
        (lambda: schedules.Balance(10, 0.9, 0.7, kind="constant"), "constant balance .* 0.7"),
        (lambda: schedules.Balance(10, interval=0), "interval .* 0"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
