"""The forms that only a TPU or a GPU runs, run here, against those of the CPU."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from hypersphere import ops
from hypersphere.ops import _curves, _sums
from tests import reference


def per_filter(cos, scale=None):
    return ops.sigmoid(cos, k=jnp.array([[[[0.2, 0.7]]]]), scale=scale)


per_filter.takes_scale = True
SIMILARITIES = [ops.Cosine(), ops.Linear(), ops.Sigmoid(k=0.3), per_filter]
CURVES = {
    "cosine": (_curves.COSINE, ()),
    "linear": (_curves.LINEAR, ()),
    "squared": (_curves.SQUARED_COSINE, ()),
    "soft": (_curves.SIGMOID, (1 / 0.75,)),
    "sharp": (_curves.SIGMOID, (1 / 0.3,)),
    "hard": (_curves.SIGMOID, (1 / 0.05,)),
}


def compile_for(monkeypatch, platform):
    """From here on every choice by platform falls on that of another one."""
    chosen = lambda *a, default, **ways: ways.get(platform, default)(*a)  # noqa: E731
    monkeypatch.setattr(lax, "platform_dependent", chosen)


@pytest.mark.parametrize(
    ("dtype", "atol"),
    [("float32", 1e-5), pytest.param("bfloat16", 0.02, marks=pytest.mark.slow)],
)
def test_answers_and_slopes_are_those_of_the_cpu(dtype, atol, monkeypatch):
    x, kernel = reference.normal(2, 5, 4, 3), reference.normal(3, 3, 3, 2, seed=1)
    rounded = [a.astype(jnp.dtype(dtype)) for a in (x, kernel)]
    weights = reference.normal(2, 5, 4, 2, seed=2).astype(jnp.dtype(dtype))

    def with_slopes(x, kernel):
        for similarity in SIMILARITIES:
            respond = functools.partial(ops.sphere_conv, similarity=similarity)
            answer, pull = jax.vjp(respond, x, kernel)
            yield answer, pull(weights)

    # A function of its own for each platform: JAX keeps what it has traced.
    here = jax.jit(lambda *a: list(with_slopes(*a)))(*rounded)
    for platform in ("tpu", "cuda"):
        compile_for(monkeypatch, platform)
        there = jax.jit(lambda *a: list(with_slopes(*a)))(*rounded)
        pairs = zip(jax.tree.leaves(here), jax.tree.leaves(there), strict=True)
        for one, other in pairs:
            one, other = np.float64(one), np.float64(other)
            np.testing.assert_allclose(other, one, atol=atol * abs(one).max())


@pytest.mark.parametrize("name", CURVES)
def test_undoing_a_response_gives_its_cosine_and_its_slopes(name):
    curve, hardness = CURVES[name]
    cos = np.sin(np.linspace(-1.5, 1.5, 301)).astype(np.float32)

    @jax.jit
    def both(cos, ends):
        values = [jnp.full((), value) for value in hardness]
        response = curve.response(cos, *values)
        slope, back, *slopes = curve.from_response(response, *values)
        undone, direct = (slope, *slopes), curve.from_cosine(cos, *values)
        return response, back, undone, direct, curve.from_response(ends, *values)

    ends = np.float32([-1.0, -1.0 + 1e-7, 0.0, 1.0 - 1e-7, 1.0])
    response, back, undone, direct, extreme = both(cos, ends)
    # Where the curve is flat, a response tells little of the cosine, and needs none.
    steep = direct[0] > 1e-2
    np.testing.assert_allclose(back[steep], cos[steep], atol=1e-4)
    for one, other in zip(undone, direct, strict=True):
        np.testing.assert_allclose(one, other, atol=3e-5 * np.abs(other).max())
    assert all(np.isfinite(x).all() for x in extreme)
    assert np.abs(response).max() <= 1


@pytest.mark.parametrize(("is_half", "rtol"), [(True, 4e-4), (False, 1e-6)])
def test_a_latitude_has_its_cosine_and_its_slope(*, is_half, rtol):
    x = np.linspace(-0.999, 0.999, 10_001).astype(np.float32)
    found = jax.jit(lambda x: _curves._of_latitude(x, is_half=is_half))(x)
    latitude = np.float64(x) * (math.pi / 2)
    slope, cos = np.float64(found[0]), np.float64(found[1])
    # Near a pole float32 itself rounds 1 - x^2.
    np.testing.assert_allclose(slope * np.cos(latitude), 2 / math.pi, rtol=30 * rtol)
    middle = abs(x) < 0.9
    np.testing.assert_allclose(
        (slope * np.cos(latitude))[middle], 2 / math.pi, rtol=rtol
    )
    np.testing.assert_allclose(cos, np.sin(latitude), rtol=rtol)


@pytest.mark.parametrize("name", ["linear", "soft", "sharp"])
def test_half_precision_undoes_a_response_as_float32_does(name, monkeypatch):
    curve, hardness = CURVES[name]
    compile_for(monkeypatch, "tpu")
    response = np.linspace(-1, 1, 257).astype(jnp.bfloat16)
    values = [jnp.full((), value) for value in hardness]
    undo = jax.jit(lambda response: curve.from_response(response, *values))
    for half, full in zip(undo(response), undo(np.float32(response)), strict=True):
        np.testing.assert_allclose(half, full, rtol=1e-3, atol=1e-3)


def test_sums_on_the_matrix_unit_are_sums(monkeypatch):
    compile_for(monkeypatch, "tpu")
    x = np.float32(reference.normal(3, 4, 6).astype(jnp.bfloat16)) ** 2

    @jax.jit
    def both(x, y):
        sums, pull = jax.vjp(lambda x: _sums.sum_squares(x, 1), x)
        wide, gather = jax.vjp(lambda y: _sums.spread(y, 1, 4), y)
        return sums, pull(y), wide, gather(x)

    y = reference.normal(3, 1, 6, seed=1)
    sums, spread, wide, gathered = both(x, y)
    np.testing.assert_allclose(sums, x.sum(1, keepdims=True), rtol=1e-6)
    np.testing.assert_allclose(gathered[0], x.sum(1, keepdims=True), rtol=1e-6)
    for repeated in (spread[0], wide):
        np.testing.assert_array_equal(repeated, np.broadcast_to(y, x.shape))


@pytest.mark.parametrize("is_input_stored", [False, True])
def test_squares_of_a_stored_input_are_added_up_plainly(is_input_stored):
    x = jax.ShapeDtypeStruct((2, 4, 4, 16), jnp.bfloat16)
    kernel = jax.ShapeDtypeStruct((1, 1, 16, 8), jnp.float32)
    numbers = ("NHWC", "HWIO", "NHWC")

    def convolve(x, kernel):
        return ops.decoupled_conv_general_dilated(
            *(x, kernel, (1, 1), "SAME"),
            dimension_numbers=numbers,
            magnitude=ops.magnitudes.Sphere(),
            is_input_stored=is_input_stored,
        )

    program = str(jax.make_jaxpr(convolve)(x, kernel))
    assert ("platform_index" in program) == (not is_input_stored)
