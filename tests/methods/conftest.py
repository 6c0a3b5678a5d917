"""Every test of a method starts from the same weights."""

import pytest
import tensorflow as tf


@pytest.fixture(autouse=True)
def _seeded():
    tf.keras.utils.set_random_seed(0)
