"""What `TF_CONFIG` may say, and what strategies need."""

import json

import pytest

from larq_ssl import distribute
from larq_ssl.cluster import Cluster, read_cluster

ONE, TWO, THREE = "host1:12345", "host2:12345", "host3:1"


def config(cluster: object, kind: object = "worker", index: object = 0) -> str:
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}})


@pytest.mark.parametrize(
    ("text", "addresses", "index"),
    [
        (config({"worker": [ONE, TWO]}), (ONE, TWO), 0),
        (config({"worker": [ONE, TWO]}, index=1), (ONE, TWO), 1),
        (config({"worker": [ONE]}), (ONE,), 0),
        # Named last, it is the first all the same.
        (config({"worker": [ONE, TWO], "chief": [THREE]}, "chief"), (THREE, ONE, TWO), 0),
        (config({"worker": [ONE, TWO], "chief": [THREE]}, index=1), (THREE, ONE, TWO), 2),
    ],
)
def test_a_cluster_is_read(text, addresses, index):
    found = read_cluster(text)
    assert found == Cluster(addresses, index)
    assert (found.size, found.is_chief) == (len(addresses), index == 0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "strategy multi_worker needs the environment variable TF_CONFIG, with the addresses"),
        ("", "strategy multi_worker needs the environment variable TF_CONFIG"),
        ("{", "TF_CONFIG must be JSON like .*, got '{'"),
        ("[]", "TF_CONFIG must be JSON like"),
        ("7", "TF_CONFIG must be JSON like"),
        ('{"cluster": {"worker": ["a:1"]}}', "TF_CONFIG must be JSON like"),
        ('{"cluster": [], "task": {}}', "TF_CONFIG must be JSON like"),
        (config({"worker": ONE}), "TF_CONFIG must list the addresses of the job 'worker', got 'host1:12345'"),
        (config({"worker": []}), "TF_CONFIG must list the addresses of the job 'worker', got \\[\\]"),
        (config({"worker": [ONE], "ps": [TWO]}), "may name the jobs chief and worker in its cluster, got 'ps'"),
        (config({"worker": [ONE], "evaluator": [TWO]}), "may name the jobs chief and worker .*, got 'evaluator'"),
        (config({"chief": [ONE, TWO], "worker": [THREE]}), "TF_CONFIG may name one chief, got 2"),
        (config({"worker": ["host1"]}), "TF_CONFIG must name addresses as host:port, got 'host1'"),
        (config({"worker": ["host1:0"]}), "must name addresses as host:port, got 'host1:0'"),
        (config({"worker": ["host1:65536"]}), "must name addresses as host:port, got 'host1:65536'"),
        (config({"worker": [12345]}), "must name addresses as host:port, got 12345"),
        (config({"worker": [ONE, ONE]}), "must name each address once, got host1:12345, host1:12345"),
        (config({"worker": [ONE]}, "evaluator"), "must name a task of type worker, as its cluster, got 'evaluator'"),
        (config({"worker": [ONE]}, None), "must name a task of type worker, as its cluster, got None"),
        (config({"worker": [ONE, TWO]}, index=2), r"must name a task with an index in \[0, 1\], got 2"),
        (config({"worker": [ONE, TWO]}, index="1"), r"must name a task with an index in \[0, 1\], got '1'"),
        (config({"worker": [ONE, TWO]}, index=True), r"must name a task with an index in \[0, 1\], got True"),
        (config({"worker": [ONE, TWO]}, index=-1), r"must name a task with an index in \[0, 1\], got -1"),
    ],
)
def test_a_cluster_that_is_wrong_is_told(text, message, monkeypatch):
    with pytest.raises(ValueError, match=message):
        read_cluster(text)
    # Before TensorFlow is asked.
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if text is not None:
        monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(ValueError, match=message):
        distribute.strategy("multi_worker")


def test_no_tpu(monkeypatch):
    monkeypatch.delenv("TPU_NAME", raising=False)
    with pytest.raises(ValueError, match="strategy tpu needs a TPU, here or named by .* TPU_NAME, and 'local' is none"):
        distribute.strategy("tpu")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (config({"worker": [ONE]}, []), r"must name a task of type worker, as its cluster, got \[\]"),
        ("[" * 100_000, "TF_CONFIG must be JSON like"),
        (config({"worker": ["localhost:\uff11\uff12"]}), "must name addresses as host:port"),
    ],
)
def test_odd_texts_are_told_too(text, told):
    with pytest.raises(ValueError, match=told):
        read_cluster(text)
