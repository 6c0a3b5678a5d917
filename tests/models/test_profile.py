import larq
import pytest

from larq_ssl import models
from larq_ssl.models.profile import Cost, cost, profile, summary_and_cost, summary_text


def test_cost_and_summary_of_reactnet_a():
    encoder = models.build("reactnet_a", classes=1000)
    measured = cost(encoder, 224)
    assert (measured.binary_macs, measured.float_macs) == (4_816_896_000, 11_862_016)
    assert measured.ops == 87_126_016
    float_bits = 32 * (29_343_592 - 28_253_184)
    assert measured.size_bytes == (28_253_184 + float_bits) // 8
    text = summary_text(encoder, 224)
    assert "# 1-bit" in text
    assert "28253184" in text
    assert "block13/conv1x1" in text


def test_both_at_once_are_the_same():
    encoder = models.build("xnor_18", width=0.125)
    assert summary_and_cost(encoder, 32) == (summary_text(encoder, 32), cost(encoder, 32))


def test_works_for_layers_shared_between_sizes():
    encoder = models.build("reactnet_18", width=0.25)
    other = encoder.at(64)
    assert isinstance(profile(other, 32), larq.models.ModelProfile)
    assert cost(encoder, 32) == cost(other, 32)
    assert cost(encoder, 64).binary_macs == 4 * cost(encoder, 32).binary_macs


@pytest.mark.parametrize(("binarization", "bits"), [("none", {32}), ("activations", {32}), ("full", {1, 32})])
def test_only_full_binarization_has_binary_work(binarization, bits):
    counts = profile(models.build("reactnet_18", binarization=binarization, width=0.25), 64)
    assert set(counts.unique_op_precisions) == bits
    assert set(counts.unique_param_bidtwidths) == bits


def test_ops_weigh_binary_work_by_64():
    assert Cost(binary_macs=640, float_macs=5, size_bytes=1).ops == 15
