import larq_ssl.version


def test_version_is_a_release_number():
    assert all(part.isdigit() for part in larq_ssl.version.__version__.split("."))
