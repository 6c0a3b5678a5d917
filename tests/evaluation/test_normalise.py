import numpy as np

from larq_ssl.evaluation.normalise import unit_rows
from tests import golden


def test_the_official_rows_of_support_vector_machines():
    arrays = golden.load("q8_probes")
    found = unit_rows(arrays["norm_in"], epsilon=1e-5)
    np.testing.assert_allclose(found, arrays["norm_out"], rtol=1e-14, atol=0)
    assert found.dtype == np.float64


def test_rows_have_length_one_and_zeros_stay():
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32) * [[1e-6], [1], [1e6], [0], [3]]
    found = unit_rows(rows.astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 1, 0, 1], rtol=1e-6)
    assert found.dtype == np.float32
