"""A step computes what the definition of its method needs, and no more: images through each network, images decoded."""

import collections

import numpy as np
import pytest
from PIL import Image

from larq_ssl.data import pipeline, reader, views
from larq_ssl.data.datasets import load_dataset
from larq_ssl.models.binary_convolution import BinaryKernel
from tests.methods import team, tiny

_PAIR = {"student": 1, "student_head": 1, "momentum_encoder": 1, "momentum_head": 1}
# Of each method, views per image that go through each network in a step. Views of one size go through together, but
# for those of which each has BatchNorm statistics of its own.
MINIMUM = {
    # Crosswise: teacher and student see both views.
    "bssl": {"teacher": 2, "student": 2, "projector": 2, "teacher_head": 2, "student_head": 2},
    # A query and a key.
    "moco": _PAIR,
    # The first view is the key, all others are queries: one of full size and three local ones.
    "moco_star": {**_PAIR, "student": 4, "student_head": 4, "linear_probe": 1},
    # A query, its nine patches, and a key of both.
    "infomin": {**_PAIR, "student": 10, "patch_head": 9, "jigsaw_head": 1},
    # One query for both terms.
    "s2bnn": {**_PAIR, "teacher": 1, "teacher_head": 1},
    # The teacher sees global views alone.
    "dino": {"student": 5, "student_head": 5, "momentum_encoder": 2, "momentum_head": 2, "linear_probe": 1},
    # Assignments are made of the scores that the student has anyway; the queue's, when it is full, are of embeddings.
    "swav": {"student": 5, "student_head": 5, "prototypes": 5},
    "simclr": {"student": 2, "student_head": 2},
    "simclr with a memory": {"student": 2, "student_head": 2, "momentum_encoder": 2, "momentum_head": 2},
    "byol": {"student": 2, "student_head": 2, "predictor": 2, "momentum_encoder": 2, "momentum_head": 2},
    "msbreg": {"student": 2, "student_head": 2, "predictor": 2, "momentum_encoder": 2, "momentum_head": 2},
    "supervised": {"student": 1, "student_head": 1, "classifier": 1},
    "multi_label": {"student": 1, "student_head": 1, "classifier": 1},
    "distill": {
        **{"teacher": 1, "teacher_head": 1, "teacher_classifier": 1},
        **{"student": 1, "classifier": 1},
    },
}
_OF_EACH_VIEW = dict.fromkeys(("student", "student_head", "predictor", "momentum_encoder", "momentum_head"), 2)
# How often a network is called in a step, where once is not enough: for views of another size, or where each view has
# BatchNorm statistics of its own.
CALLS = {
    "bssl": dict.fromkeys(("student", "projector", "student_head", "teacher_head"), 2),
    **{name: {"student": 2} for name in ("moco_star", "infomin", "dino", "swav")},
    **{name: _OF_EACH_VIEW for name in ("byol", "msbreg")},
}


def counted(method, batch):
    """Calls of each network in a step, and the images that went through it."""
    calls, images = collections.Counter(), collections.Counter()

    def counting(name, call):
        def counted_call(inputs, *arguments, **options):
            calls[name] += 1
            images[name] += int(inputs.shape[0])
            return call(inputs, *arguments, **options)

        return counted_call

    for name, network in method.networks.items():
        network.call = counting(name, network.call)
    method.train_step(batch)
    return calls, images


@pytest.mark.parametrize("name", MINIMUM)
def test_no_image_goes_through_a_network_in_vain(name):
    case = team.CASES[name]
    calls, images = counted(case.method(), case.batch(0))
    assert images == {network: count * team.SIZE for network, count in MINIMUM[name].items()}
    assert calls == {**dict.fromkeys(MINIMUM[name], 1), **CALLS.get(name, {})}


def test_every_method_is_counted():
    assert {team.CASES[name].make for name in MINIMUM} == {case.make for case in team.CASES.values()}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: tiny.s2bnn("guided"), {"student": 1, "student_head": 1, "teacher": 1, "teacher_head": 1}),
        (lambda: tiny.s2bnn("contrastive"), _PAIR),
        (lambda: tiny.bssl(views=1), {name: 1 for name in MINIMUM["bssl"]}),
        (lambda: tiny.bssl("released"), {name: 2 for name in ("teacher", "student", "teacher_head", "student_head")}),
        (lambda: tiny.moco(accumulate=1, batch_norm_groups=2), _PAIR),
    ],
)
def test_what_a_scheme_leaves_out_is_not_computed(make, expected):
    _, images = counted(make(), tiny.batch(size=8))
    assert images == {network: 8 * count for network, count in expected.items()}


@pytest.mark.parametrize("name", MINIMUM)
def test_a_kernel_is_quantised_once_for_all_views(name, monkeypatch):
    case = team.CASES[name]
    with tiny.binary("bfloat16"):
        method = case.make(**case.arguments)
    kernels, of = collections.Counter(), BinaryKernel.of
    monkeypatch.setattr(BinaryKernel, "of", lambda kernel, how: kernels.update([id(kernel)]) or of(kernel, how))
    method.train_step(case.batch(0))
    binary = [name for name in ("student", "momentum_encoder") if name in method.networks]
    assert len(kernels) == 2 * len(binary)
    assert set(kernels.values()) == {1}


def test_targets_of_a_teacher_are_not_computed_again():
    method = tiny.distill()
    batch = {**tiny.one_view_batch(), "targets": np.zeros([8, 4], np.float32)}
    _, images = counted(method, batch)
    assert images == {"student": 8, "classifier": 8}


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    (folder / "train").mkdir()
    for number in range(160):
        # Of two sizes: small images of one size are kept decoded.
        pixels = np.random.default_rng(number).integers(0, 256, (40, 40 + number % 2, 3), np.uint8)
        pixels[0, 0] = number, number, number
        Image.fromarray(pixels).save(folder / "train" / f"{number:03}.png")
    return load_dataset("folder", "train", str(folder))


@pytest.fixture
def decoded(monkeypatch):
    """How often each of `photos` has been decoded."""
    counted = collections.Counter()
    decode = reader.decode

    def counting(data):
        image = decode(data)
        counted[image.getpixel((0, 0))[0]] += 1
        return image

    monkeypatch.setattr(reader, "decode", counting)
    return counted


@pytest.mark.parametrize("kept", [0, 10, 1000])
def test_kept_images_are_decoded_once_in_all_epochs(kept, photos, decoded):
    """As many as there is room for, and with the same pixels."""
    few = photos.subset(np.arange(16), "few")
    policy = views.policy("moco_v2", 16)
    settings = {"batch_size": 8, "seed": 0, "parallel_calls": 1}
    plain = list(pipeline.view_batches(few, policy, **settings).take(8))
    decoded.clear()
    room = kept * 40 * 41 * 3
    batches = list(pipeline.view_batches(few, policy, **settings, cache_bytes=room, prefetch=1).take(8))
    for one, other in zip(batches, plain, strict=True):
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    once = sum(count == 1 for count in decoded.values())
    assert len(decoded) == 16
    if kept == 1000:
        assert once == 16
    else:
        # Half of them have a column less: one more may fit.
        assert kept <= once <= kept + (kept > 0)
        assert max(decoded.values()) >= 4


POLICIES = {
    # Of each method, one of them is the default.
    **{name: lambda name=name: views.policy(name, 32) for name in sorted(views.POLICIES)},
    "msbreg, four views": lambda: views.policy("msbreg", 32).with_views(4),
    "infomin, jigsaw": lambda: views.policy("infomin", 32).with_jigsaw(),
}


@pytest.mark.parametrize("policy", POLICIES)
def test_an_image_is_decoded_once_for_all_its_views(policy, photos, decoded):
    chosen = POLICIES[policy]()
    batches = pipeline.view_batches(photos, chosen, 8, seed=0, parallel_calls=1).take(3)
    ids = np.concatenate([batch["id"].numpy() for batch in batches])
    assert len(set(ids)) == 24
    # What a stream has begun of the next batch is decoded once, too.
    assert set(decoded.values()) == {1}
    assert set(ids) <= set(decoded)
    assert len(decoded) <= 24 + 8
