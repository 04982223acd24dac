import functools

import jax
import numpy as np
import pytest

from hypersphere import ops
from tests import helpers

EPS = 1e-2
CASES = {
    "btd,dhk->bthk": ((2, 3, 4), (4, 2, 5)),
    "bthk,hkd->btd": ((2, 3, 2, 4), (2, 4, 5)),
    "...d,dk->k...": ((2, 3, 4), (4, 5)),
    "bd,hdk->hbk": ((3, 4), (2, 4, 5)),
    "gb...hd,ghde->h...gbe": ((2, 3, 2, 2, 4), (2, 2, 4, 5)),
}


def slow(subscripts, x, kernel):
    """Cosines in float64: lengths are sums by the same subscripts, beside ones."""
    x, kernel = np.float64(x), np.float64(kernel)
    dots = np.einsum(subscripts, x, kernel)
    of_x = np.einsum(subscripts, x**2, np.ones_like(kernel))
    of_kernel = np.einsum(subscripts, np.ones_like(x), kernel**2)
    cos = dots / np.sqrt(of_x + EPS**2) / np.sqrt(of_kernel + EPS**2)
    return 2 / np.pi * np.arcsin(cos)


def test_equals_the_slow_reference(numbers):
    arrays = {text: tuple(map(numbers, shapes)) for text, shapes in CASES.items()}

    @jax.jit
    def respond(arrays):
        one = functools.partial(ops.sphere_einsum, similarity=ops.Linear(), eps=EPS)
        return {text: one(text, *pair) for text, pair in arrays.items()}

    for text, found in respond(arrays).items():
        helpers.assert_close(found, slow(text, *arrays[text]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bd,de", "an input and one kernel"),
        ("bd,de,ef->bf", "an input and one kernel"),
        ("bd,...de->be", "letters for all axes of the kernel"),
        ("bcd,de->be", "cannot sum over c"),
        ("bd,def->be", "cannot sum over f"),
    ],
)
def test_sums_that_have_no_angle_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        ops.einsum_filters(text, (2, 3, 4))
    x, kernel = np.ones((2, 3), np.float32), np.ones((3, 4), np.float32)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(ops.sphere_einsum, text), x, kernel)


@pytest.mark.parametrize(
    ("text", "shape", "expected"),
    [
        ("btd,dhk->bthk", (4, 2, 5), (2, 5)),
        ("bd,hdk->hbk", (2, 4, 5), (2, 1, 5)),
        ("...d,dk->...k", (4, 5), 5),
        ("bd,d->b", (4,), 1),
        ("...d,dk->k...", (4, 5), None),
    ],
)
def test_a_number_per_filter_broadcasts_against_an_answer(text, shape, expected):
    assert ops.einsum_filters(text, shape) == expected
