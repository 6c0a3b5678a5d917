"""What encoders make of images, with pixels for features: what is near to what is known."""

import io

import numpy as np
import pytest
from PIL import Image

from larq_ssl.data.reader import Reader
from larq_ssl.evaluation.features import Features
from larq_ssl.report import collect, examples
from tests.report.folders import write_run


@pytest.fixture(scope="module")
def seen():
    """What was extracted: split and number of images."""
    return []


@pytest.fixture(scope="module")
def look(tmp_path_factory, seen):
    def extract(encoder, images, size, cache_dir=None, progress=None):
        seen.append((images.split, images.size))
        rows = list(map(Reader(images).read, range(images.size)))
        features = np.stack([np.asarray(image, np.float32).reshape(-1) for image, _ in rows])
        return Features(features, np.array([label for _, label in rows]), np.arange(images.size))

    run = write_run(tmp_path_factory.mktemp("looks") / "run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "extract", extract)
        patch.setattr(examples, "load_encoder", lambda folder: None)
        (told,) = collect([run])
        return examples.look(told, run / "cache", gallery_images=300, query_images=60, drawn_by="PCA")


def test_images_held_out_are_looked_up_among_training_images(look, seen):
    assert seen == [("train", 300), ("val", 60)]
    assert (look.gallery, look.queries, len(look.points)) == (300, 60, 60)
    assert look.class_names == tuple("0123456789")


def test_a_row_of_the_counts_is_a_class_and_a_column_what_it_is_taken_for(look):
    assert look.counts.sum(axis=1).tolist() == np.bincount(look.labels, minlength=10).tolist()
    # Which are not those of the columns: otherwise this would tell nothing.
    assert look.counts.sum(axis=0).tolist() != look.counts.sum(axis=1).tolist()
    assert np.trace(look.counts) > 0.8 * look.queries


def test_neighbours_are_the_nearest_and_come_in_their_order(look):
    assert len(look.examples) > 4
    for example in look.examples:
        near = [picture.similarity for picture in example.neighbours]
        assert len(near) == examples.NEIGHBOURS
        assert near == sorted(near, reverse=True)
    # By pixels most neighbours of a digit are of its class, and their cosine is what their pictures have.
    same = [near.name == example.query.name for example in look.examples[:4] for near in example.neighbours]
    assert np.mean(same) > 0.5


def test_the_last_examples_are_those_that_the_vote_gets_wrong(look):
    wrong = look.examples[4:]
    assert 1 <= len(wrong) <= 2
    assert all(example.predicted != example.query.name for example in wrong)


def test_pictures_are_of_the_size_that_the_encoder_sees(look):
    with Image.open(io.BytesIO(look.examples[0].query.png)) as image:
        assert image.size == (16, 16)
