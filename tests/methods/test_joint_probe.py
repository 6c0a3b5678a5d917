"""The linear classifier beside a method: which view it learns from."""

import numpy as np
import pytest
import tensorflow as tf

from tests.methods import tiny


@pytest.mark.parametrize("make", [tiny.dino, tiny.swav, tiny.byol, tiny.msbreg])
def test_it_learns_from_the_first_global_view(make):
    # Without BatchNorm the features of a view do not depend on the others.
    method, batch = make(batch_norm=False, linear_probe=True), tiny.multi_crop_batch()
    terms = method.loss_terms(batch)

    def expected(view: int) -> np.ndarray:
        logits = method.networks["linear_probe"](method.networks["student"](batch["global"][:, view], training=True))
        return tf.nn.sparse_softmax_cross_entropy_with_logits(batch["label"], logits).numpy()

    np.testing.assert_allclose(terms["probe"], expected(0), rtol=1e-4)
    assert not np.allclose(expected(0), expected(1), rtol=1e-3)
