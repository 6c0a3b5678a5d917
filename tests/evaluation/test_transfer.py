"""The table of data sets and protocols of transfer."""

import numpy as np
import pytest

from larq_ssl.evaluation import fine_tuning, linear
from larq_ssl.evaluation.transfer import DATA, PROTOCOLS

OBJECTS = ("cifar10", "cifar100", "cub200", "birdsnap")


def test_tfds_has_what_is_said_to_be_there_and_not_the_others():
    import tensorflow_datasets as tfds

    builders = tfds.list_builders(with_community_datasets=False)
    assert {name: data.tfds for name, data in DATA.items()} == {
        **{"cifar10": "cifar10", "cifar100": "cifar100", "cub200": "caltech_birds2011", "birdsnap": None},
        **{"places205": None, "voc/2007": "voc/2007", "inat2018": "i_naturalist2018"},
    }
    for data in DATA.values():
        # A data set that TFDS takes up one day should be read from there.
        assert (
            data.tfds.partition("/")[0] in builders
            if data.tfds
            else not [name for name in builders if data.name in name]
        )


def test_numbers_of_classes_are_those_of_tfds():
    import tensorflow_datasets as tfds

    for name in ("cifar10", "cifar100", "cub200"):
        info = tfds.builder_cls(DATA[name].tfds)(data_dir="nowhere").info
        assert info.features["label"].num_classes == DATA[name].classes
    assert {name for name, data in DATA.items() if data.folder == "voc_folder"} == {"voc/2007"}
    voc = tfds.builder_cls("voc")(config="2007", data_dir="nowhere").info
    assert voc.features["labels"].feature.num_classes == DATA["voc/2007"].classes
    assert [DATA[name].classes for name in ("birdsnap", "places205", "inat2018")] == [500, 205, 8142]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=list(PROTOCOLS))
def test_protocols_name_presets_and_data_that_are_there(protocol):
    assert protocol.image_size == 224
    assert set(protocol.data) <= set(DATA)
    assert set(protocol.linear_of) | set(protocol.epochs) <= set(protocol.data)
    presets = {protocol.linear_preset(name) for name in protocol.data}
    if protocol.fine_tuning is None:
        assert presets <= set(linear.PRESETS)
    else:
        assert presets == {None}
        assert protocol.fine_tuning in fine_tuning.PRESETS


def test_each_data_set_is_measured_as_published():
    told = {name: [protocol.linear_preset(data) for data in protocol.data] for name, protocol in PROTOCOLS.items()}
    assert told == {
        "bssl": [*["bssl"] * 4, "places205"],
        "s2bnn_transfer": [None] * 5,
        "s2bnn_linear": ["s2bnn"] * 4,
        "msbreg": ["msbreg_transfer"] * 2,
    }
    assert PROTOCOLS["bssl"].data == (*OBJECTS, "places205")
    assert PROTOCOLS["s2bnn_linear"].data == OBJECTS
    assert PROTOCOLS["s2bnn_transfer"].data == (*OBJECTS, "voc/2007")
    assert PROTOCOLS["s2bnn_transfer"].fine_tuning == "s2bnn_transfer"
    assert PROTOCOLS["msbreg"].epochs == {"places205": 28, "inat2018": 84}


@pytest.mark.parametrize(
    ("name", "rate", "epochs", "drops", "weight_decay"),
    [
        ("places205", 0.01, 28, (7, 14, 21), 1e-5),
        ("s2bnn", 0.1, 100, (60, 80), 0.0),
        ("msbreg_transfer", 0.2, 84, (28, 56), 1e-4),
    ],
)
def test_linear_presets_are_as_published(name, rate, epochs, drops, weight_decay):
    preset = linear.linear_preset(name)
    assert rate in preset.learning_rates
    assert (preset.epochs, preset.batch_size, preset.momentum, preset.weight_decay) == (epochs, 256, 0.9, weight_decay)
    assert preset.drop_factor == 0.1
    np.testing.assert_allclose(np.array(preset.drops) * epochs, drops)
