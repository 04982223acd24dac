import collections
import itertools

import numpy as np
import pytest

from hypersphere import data


def steps(first, last, *, size=10, batch_size=4, seed=0):
    return [
        data.batch_indices(step, size=size, batch_size=batch_size, seed=seed)
        for step in range(first, last)
    ]


@pytest.mark.parametrize("batch_size", [1, 3, 4, 10])
def test_every_epoch_holds_every_index_once(batch_size):
    sequence = np.concatenate(steps(0, 3 * batch_size * 10, batch_size=batch_size))
    epochs = sequence[: 10 * (len(sequence) // 10)].reshape(-1, 10)
    np.testing.assert_array_equal(
        np.sort(epochs), np.arange(10)[None].repeat(len(epochs), 0)
    )


def test_epochs_are_shuffled_anew():
    epochs = (
        np.concatenate(steps(0, 5, size=20)).tolist(),
        np.concatenate(steps(5, 10, size=20)).tolist(),
    )
    assert epochs[0] != epochs[1]
    assert epochs[0] != list(range(20))


def test_a_batch_alone_equals_the_batch_in_a_sequence():
    sequence = steps(0, 12)
    for step in (11, 2, 7, 0):
        np.testing.assert_array_equal(steps(step, step + 1)[0], sequence[step])


def test_a_batch_straddles_epochs():
    head, tail = np.split(steps(2, 3)[0], 2)
    assert set(head.tolist()).isdisjoint(np.concatenate(steps(0, 2)).tolist())
    np.testing.assert_array_equal(
        np.sort(np.concatenate([tail, *steps(3, 5)])), np.arange(10)
    )


def test_seeds_give_different_orders():
    assert any(
        (a != b).any() for a, b in zip(steps(0, 2), steps(0, 2, seed=1), strict=True)
    )


def test_order_is_the_same_on_every_platform_and_in_every_version():
    first = data.batch_indices(0, size=10, batch_size=10, seed=0)
    far = data.batch_indices(10**9, size=7, batch_size=5, seed=2**64 - 1)
    assert first.dtype == far.dtype == np.int32
    assert first.tolist() == [0, 2, 9, 1, 8, 5, 4, 3, 6, 7]
    assert far.tolist() == [2, 0, 1, 6, 3]


def test_changing_a_batch_does_not_change_the_next_call():
    batch = data.batch_indices(0, size=10, batch_size=4, seed=0)
    expected = batch.copy()
    batch[:] = -1
    np.testing.assert_array_equal(steps(0, 1)[0], expected)


def test_every_order_of_a_small_set_is_equally_likely():
    counts = collections.Counter(
        tuple(data.batch_indices(step, size=3, batch_size=3, seed=5).tolist())
        for step in range(1200)
    )
    assert set(counts) == set(itertools.permutations(range(3)))
    assert 150 < min(counts.values()) and max(counts.values()) < 250


@pytest.mark.parametrize(("step", "seed"), [(-1, 0), (0, -1), (0, 2**64)])
def test_step_and_seed_out_of_range_are_refused(step, seed):
    with pytest.raises(ValueError, match=f"`step={step}` and `seed={seed}`"):
        data.batch_indices(step, size=10, batch_size=4, seed=seed)


@pytest.mark.parametrize("batch_size", [0, 11])
def test_a_batch_that_does_not_fit_is_refused(batch_size):
    message = f"`batch_size={batch_size}` for a set of `size=10`"
    with pytest.raises(ValueError, match=message):
        data.check_batch_size(batch_size, 10)
    with pytest.raises(ValueError, match=message):
        data.batch_indices(0, size=10, batch_size=batch_size, seed=0)


def test_a_batch_of_the_whole_set_fits():
    data.check_batch_size(10, 10)


@pytest.mark.parametrize(("size", "batch_size"), [(10, 4), (12, 4), (1, 4), (5, 1)])
def test_evaluation_counts_every_example_once(size, batch_size):
    counted = np.zeros(size)
    for indices, weights in data.eval_batches(size, batch_size):
        assert indices.shape == weights.shape == (batch_size,)
        assert (indices.dtype, weights.dtype) == (np.int32, np.float32)
        np.add.at(counted, indices, weights)
    np.testing.assert_array_equal(counted, np.ones(size))


def test_evaluation_pads_with_index_zero():
    *_, (indices, weights) = data.eval_batches(10, 4)
    assert indices.tolist() == [8, 9, 0, 0]
    assert weights.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize(("size", "batch_size"), [(0, 4), (4, 0)])
def test_evaluation_of_nothing_is_refused_at_once(size, batch_size):
    with pytest.raises(
        ValueError, match=f"`size={size}` and `batch_size={batch_size}`"
    ):
        data.eval_batches(size, batch_size)
