import json

import numpy as np
import pytest

from hypersphere.training.machine import _distributed
from hypersphere.training.machine._distributed import refuse_different, seen_by_all


def as_two(monkeypatch, other):
    """Lets this process take what it says for process 0's, and `other` for 1's."""
    text = json.dumps(other, sort_keys=True).encode()

    def gather(mine):
        if mine.dtype == np.uint8:
            rows = [mine.tobytes(), text.ljust(mine.size)]
            return np.stack([np.frombuffer(row, np.uint8) for row in rows])
        return np.array([mine, len(text)])

    monkeypatch.setattr(_distributed.jax, "process_count", lambda: 2)
    monkeypatch.setattr(_distributed.multihost_utils, "process_allgather", gather)


def test_processes_that_say_the_same_go_on(monkeypatch):
    as_two(monkeypatch, {"config.seed": 3})
    refuse_different({"config.seed": 3})


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"a": "é" * 99, "b": [1]}, "b is .1, 2. in process 0 and .1. in process 1"),
        ({"a": "", "b": [1, 2]}, "a is 'é.*' in process 0 and '' in process 1"),
        ({"a": "é" * 99}, "b is .1, 2. in process 0 and 'not there' in process 1"),
    ],
)
def test_what_differs_is_named_with_what_both_say(monkeypatch, other, message):
    as_two(monkeypatch, other)
    with pytest.raises(ValueError, match=message):
        refuse_different({"a": "é" * 99, "b": [1, 2]})


def test_a_folder_that_lags_is_looked_at_again(monkeypatch):
    monkeypatch.setattr(_distributed, "_LAGS", (0.0, 0.0))
    looks = iter([[1, 2], [2, 2], []])
    assert seen_by_all(lambda: next(looks), lambda each: len(set(each)) == 1) == [2, 2]
    always = seen_by_all(lambda: [1, 2], lambda each: len(set(each)) == 1)
    assert always == [1, 2]
