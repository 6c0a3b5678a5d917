"""The benchmark of probes measures what it says it measures."""

import pytest

from larq_ssl.experiments import benchmark_probes

ENCODER = {"name": "resnet_18", "binarization": "none", "stem": "cifar", "width": 0.125}


def groups():
    return benchmark_probes.groups(ENCODER, 16, 4, ["float32"])


def test_each_group_has_its_reference_first():
    found = {name: [variant.name for variant in variants] for name, variants in groups().items()}
    assert len(found) == 5
    for name, variants in found.items():
        reference = "1 learning rate" if name.startswith("linear") else "bare: "
        assert variants[0].startswith(reference)
        assert variants[1] in ("8 learning rates", "extract", "knn, k = 10, 20, 100, 200")
    assert "linear, cached features, 50,000 x 512, 10 classes" in found
    assert "kNN of 5,000 images among 50,000 x 512" in found


def test_sizes_are_those_of_the_names():
    for name, variants in groups().items():
        for variant in variants:
            if "cached" in name:
                assert variant.settings["images"] == 50_000
                assert f"{variant.settings['classes']} classes" in name
                assert variant.settings["rates"] == int(variant.name.split()[0])
            if "kNN" in name:
                assert dict(variant.settings) == {"bank": 50_000, "queries": 5_000, "dim": 512}


@pytest.mark.parametrize("name", list(groups()))
def test_every_variant_takes_turns(name):
    small = {"images": 40, "bank": 60, "queries": 20, "dim": 6}
    for variant in groups()[name]:
        turn = variant.prepare(**{key: small.get(key, value) for key, value in variant.settings.items()})
        for steps in (2, 1):
            count, seconds = turn(steps)
            images = 40 if "cached" in name else 20 if "kNN" in name else 4
            assert count == steps * images
            assert seconds > 0


def test_the_command_knows_it(commands):
    code = """
from absl import flags
from larq_ssl.experiments import benchmark
flags.FLAGS(["benchmark", "--what=probes", "--precisions=float32,mixed_bfloat16"])
print(len(benchmark.groups(benchmark.image_folders(None))), benchmark._WHAT.value in benchmark._COMPARES_TIME)
"""
    done = commands.python(code)
    assert (done.code, done.out.split()) == (0, ["7", "True"]), done.err
