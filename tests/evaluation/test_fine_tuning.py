"""The numbers with which published methods fine-tune, one by one."""

import dataclasses

import pytest

from larq_ssl.evaluation.fine_tuning import PRESETS, SEMI_SUPERVISED, FineTuning, setting, sweep, trial_names

FIELDS = [field.name for field in dataclasses.fields(FineTuning)]


def is_as(run: FineTuning, **published: object) -> None:
    """All that is not said is as in supervised training with a constant batch: nothing special."""
    usual = {
        **{"classifier_lr": None, "head_layer": 0, "freeze_encoder": False, "classifier_init": "pytorch"},
        **{"optimizer": "sgd", "weight_decay": 0.0, "min_lr": 0.0, "views": "crop_flip"},
    }
    expected = usual | published
    assert {"lr", "epochs", "batch_size", "schedule"} <= expected.keys()
    # What no schedule of theirs reads.
    checked = [name for name in FIELDS if name != "step_factor" or "step_factor" in expected]
    assert expected.keys() == set(checked)
    for name in checked:
        value = expected[name]
        assert getattr(run, name) == (pytest.approx(value) if isinstance(value, float) else value), name


@pytest.mark.parametrize("share", [0.01, 0.1])
def test_bssl_tries_nine_pairs_of_learning_rates(share):
    runs = sweep("bssl", share)
    pairs = [(run.lr, run.classifier_lr) for run in runs]
    assert pairs == [
        *((0.1, 0.1), (0.1, 1.0), (0.1, 10.0)),
        *((0.01, 0.01), (0.01, 0.1), (0.01, 1.0)),
        *((0.001, 0.001), (0.001, 0.01), (0.001, 0.1)),
    ]
    for run, (lr, classifier_lr) in zip(runs, pairs, strict=True):
        is_as(
            run,
            **{"lr": lr, "classifier_lr": classifier_lr, "epochs": 20, "batch_size": 256, "weight_decay": 5e-4},
            **{"classifier_init": "normal_0.01", "schedule": "step", "step_factor": 0.2},
        )
    assert setting("bssl", share) == runs[4]


def test_the_released_code_of_bssl_decays_less_with_more_labels():
    for share, decay in ((0.01, 5e-4), (0.1, 1e-4)):
        paper, released = sweep("bssl", share), sweep("bssl_released", share)
        assert released == tuple(dataclasses.replace(run, weight_decay=decay) for run in paper)


@pytest.mark.parametrize(("share", "lr", "classifier_lr"), [(0.01, 0.02, 5.0), (0.1, 0.01, 0.2)])
def test_swav(share, lr, classifier_lr):
    (run,) = sweep("swav", share)
    is_as(run, lr=lr, classifier_lr=classifier_lr, epochs=20, batch_size=256, schedule="step", step_factor=0.2)


@pytest.mark.parametrize(("share", "epochs", "layer"), [(0.01, 60, 1), (0.1, 30, 1), (1.0, 30, 0)])
@pytest.mark.parametrize(("larger", "lr"), [(False, 0.16), (True, 0.064)])
def test_simclr(share, epochs, layer, larger, lr):
    (run,) = sweep("simclr", share, larger=larger)
    is_as(
        run,
        **{"lr": lr, "epochs": epochs, "batch_size": 1024, "head_layer": layer, "classifier_init": "zeros"},
        **{"optimizer": "lars_simclr", "schedule": "simclr", "views": "simclr_crop_flip"},
    )
    (smaller,) = sweep("simclr", share, 256, larger)
    assert smaller.lr == pytest.approx(lr / 2)


@pytest.mark.parametrize(("share", "epochs"), [(0.01, 60), (0.1, 30)])
def test_sslight(share, epochs):
    (run,) = sweep("sslight", share)
    is_as(
        run,
        **{"lr": 0.12, "epochs": epochs, "batch_size": 1024, "head_layer": 2, "optimizer": "sgd_nesterov"},
        **{"schedule": "epoch_cosine", "min_lr": 1e-6},
    )
    assert sweep("sslight", share, 256)[0].lr == pytest.approx(0.03)


def test_msbreg_freezes_the_encoder_for_one_percent():
    common = {"batch_size": 1024, "epochs": 50, "optimizer": "sgd_nesterov", "schedule": "cosine"}
    (few,), (more,) = sweep("msbreg", 0.01), sweep("msbreg", 0.1)
    is_as(few, lr=2.0, freeze_encoder=True, **common)
    is_as(more, lr=2.5e-4, classifier_lr=0.25, **common)


def test_byol_sweeps_learning_rates_and_epochs():
    runs = sweep("byol", 0.01)
    assert {(run.lr, run.epochs) for run in runs} == {
        (lr, n) for lr in (0.005, 0.01, 0.02, 0.05, 0.1) for n in (30, 50)
    }
    for run in runs:
        is_as(run, lr=run.lr, epochs=run.epochs, batch_size=1024, optimizer="sgd_nesterov", schedule="cosine")


def test_s2bnn_transfers():
    (run,) = sweep("s2bnn_transfer", 1.0)
    is_as(
        run,
        **{"lr": 0.01, "epochs": 180, "batch_size": 128, "weight_decay": 1e-4, "classifier_init": "normal_0.01"},
        **{"schedule": "step", "step_factor": 0.1},
    )
    assert "s2bnn_transfer" not in SEMI_SUPERVISED


@pytest.mark.parametrize("name", PRESETS)
def test_what_is_not_known_is_taken_to_be_few(name):
    assert sweep(name) == sweep(name, 0.01) != ()
    assert len(set(trial_names(sweep(name)))) == len(sweep(name))


def test_runs_are_called_by_what_differs():
    assert trial_names(sweep("bssl"))[:2] == ("lr_0.1-classifier_lr_0.1", "lr_0.1-classifier_lr_1")
    assert trial_names(sweep("byol"))[-1] == "lr_0.1-epochs_50"
    assert trial_names(sweep("swav")) == ("only",)


def test_flags_leave_out_what_is_not_set():
    told = setting("simclr").flags()
    assert "classifier_lr" not in told
    assert told["head_layer"] == 1
    assert setting("swav").flags()["classifier_lr"] == 5.0


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="`preset` must be one of .*'swav'.*, got 'moco'"):
        sweep("moco")
