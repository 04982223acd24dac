"""What holds for every operator, whatever the shape, the dtype and the data."""

import dataclasses
import functools
import pathlib
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import Phase, given, settings, strategies as st
from hypothesis.configuration import set_hypothesis_home_dir
from jax.flatten_util import ravel_pytree

from hypersphere import losses, ops
from tests import helpers, reference

set_hypothesis_home_dir(pathlib.Path(__file__).parents[1] / ".cache" / "hypothesis")

# The same examples in every run, and as they are: smaller ones would compile again.
always = dict(derandomize=True, deadline=None, database=None, phases=[Phase.generate])
few, many = (settings(max_examples=count, **always) for count in (5, 15))


class Geometry(NamedTuple):
    x: tuple[int, ...]
    kernel: tuple[int, ...]
    options: tuple = ()  # (name, value) pairs


DENSE = Geometry((3, 6), (6, 4))
LINE, PLANE = Geometry((2, 7, 4), (3, 4, 4)), Geometry((2, 4, 3, 2), (3, 2, 2, 2))
CONVOLUTIONS = [
    LINE,
    PLANE,
    Geometry((2, 7, 4), (3, 2, 6), (("strides", (2,)), ("kernel_dilation", (2,)))),
    Geometry((2, 4, 3, 2), (3, 2, 2, 2), (("strides", (2, 1)), ("padding", "VALID"))),
    Geometry((2, 4, 3, 2), (2, 2, 1, 4), (("padding", ((1, 0), (0, 2))),)),
    Geometry((2, 4, 3, 2), (1, 1, 2, 3)),
    Geometry((1, 3, 2, 3, 2), (2, 2, 2, 2, 3), (("strides", (2, 1, 1)),)),
    Geometry((2, 2, 3, 2, 2), (2, 1, 3, 2, 2), (("input_dilation", (2, 1, 2)),)),
]
RADIUS, SOFTNESS = 2.0, np.linspace(0.1, 1.0, 6)


def per_filter(cos):
    k = SOFTNESS[: cos.shape[-1]].reshape((1,) * (cos.ndim - 1) + (-1,))
    return ops.sigmoid(cos, k=jnp.asarray(k))


SIMILARITIES = {
    "cosine": (ops.Cosine(), reference.cosine),
    "linear": (ops.Linear(), reference.linear),
    "sigmoid": (ops.Sigmoid(), reference.sigmoid),
    "per filter": (per_filter, lambda c: reference.sigmoid(c, SOFTNESS[: c.shape[-1]])),
    "squared": (ops.SquaredCosine(), reference.squared_cosine),
}


@dataclasses.dataclass(frozen=True)
class Operator:
    geometry: Geometry
    similarity: str
    is_decoupled: bool = False  # of magnitude tanh

    def __call__(self, x, kernel):
        options = dict(similarity=SIMILARITIES[self.similarity][0])
        if x.ndim == 2:
            return ops.sphere_dense(x, kernel, **options)
        options |= dict(self.geometry.options)
        options["feature_group_count"] = x.shape[-1] // kernel.shape[-2]
        if self.is_decoupled:
            options |= dict(magnitude=ops.magnitudes.Tanh(), radius=RADIUS)
            return ops.decoupled_conv(x, kernel, **options)
        return ops.sphere_conv(x, kernel, **options)

    def truth(self, x, kernel, off=0.0):
        """The float64 reference; with `off`, of cosines that are wrong by that."""
        if x.ndim == 2:  # a convolution over one pixel
            return self.truth(x[:, None], kernel[None], off)[:, 0]
        options = dict(self.geometry.options, groups=x.shape[-1] // kernel.shape[-2])
        cos = reference.sphere_conv(x, kernel, **options)
        answer = SIMILARITIES[self.similarity][1](cos + off * (1 + abs(cos)))
        if self.is_decoupled:
            tanh = reference.MAGNITUDES["Tanh"]
            options |= dict(radius=RADIUS, similarity=lambda cos: 1.0)
            answer = answer * reference.decoupled_conv(x, kernel, tanh, **options)
        return answer


similarities = st.sampled_from(sorted(SIMILARITIES))
no, yes, every = st.just(False), st.just(True), st.sampled_from
angular = st.builds(Operator, every([DENSE, *CONVOLUTIONS]), similarities, no)
operators = angular | st.builds(Operator, every(CONVOLUTIONS), similarities, yes)
seeds = st.integers(0, 2**32 - 1)
dtypes = st.sampled_from(["float32", "bfloat16", "float16"])
sizes = every([1e-30, 1e18]) | st.integers(-30, 18).map(lambda power: 10.0**power)
KINDS = ["normal", "no input", "no kernel", "parallel", "sparse"]


def drawn(operator, seed, kind="normal", dtype="float32", scales=(1.0, 1.0)):
    """An input and a kernel."""
    random = np.random.default_rng(seed)
    shapes = operator.geometry.x, operator.geometry.kernel
    x, kernel = (random.standard_normal(shape) for shape in shapes)
    if kind == "parallel":  # every whole patch is along, or opposite to, every filter
        profile = random.standard_normal((kernel.shape[-2], 1))
        kernel = np.broadcast_to(profile * np.sign(kernel.flat[0]), kernel.shape)
        x = np.broadcast_to(np.resize(profile, x.shape[-1]), x.shape)
    elif kind == "sparse":  # some patches are zero
        x = x * (random.random(x.shape) < 0.2)
    elif kind == "any bits":  # every finite float16 is as likely as every other
        bits = [random.integers(-0x7BFF, 0x7C00, shape, np.int16) for shape in shapes]
        x, kernel = (np.sign(b) * abs(b).view(np.float16) for b in bits)
    x, kernel = x * (kind != "no input"), kernel * (kind != "no kernel")
    scaled = [a * s for a, s in zip((x, kernel), scales, strict=True)]
    return [a.astype(jnp.dtype(dtype)) for a in scaled]


@functools.cache
def weights_for(operator):
    """One weight per entry of the answer."""
    answer = jax.eval_shape(operator, *drawn(operator, 0))
    return reference.normal(*answer.shape, seed=5)


def with_slopes(operator, x, kernel, weights):
    """The answer, and the gradient of its weighted sum."""
    answer, pull = jax.vjp(operator, x, kernel)
    return answer, pull(weights.astype(answer.dtype))


compiled = jax.jit(Operator.__call__, static_argnums=0)
compiled_with_slopes = jax.jit(with_slopes, static_argnums=0)


@many
@given(operators, seeds, dtypes)
def test_the_answer_is_at_most_one_and_odd_in_the_filter(operator, seed, dtype):
    for kind in KINDS:
        x, kernel = drawn(operator, seed, kind, dtype, (100.0, 100.0))
        answer = compiled(operator, x, kernel)
        assert answer.dtype == dtype and np.max(np.abs(np.float64(answer))) <= 1
        opposite = compiled(operator, x, -kernel)
        np.testing.assert_array_equal(opposite, -np.asarray(answer))


@pytest.mark.slow
@many
@given(operators, seeds, dtypes, every([0.5, 4.0, 1e4]))
def test_the_answer_is_that_of_the_reference(operator, seed, dtype, size):
    # As exact as the dtype allows the cosine to be, because slopes grow at the poles.
    off = helpers.TOLERANCE[dtype]["atol"]
    for kind in KINDS:
        arrays = drawn(operator, seed, kind, dtype, (size, 0.5))
        low, high = (operator.truth(*arrays, sign * off) for sign in (-1, 1))
        answer = np.float64(compiled(operator, *arrays))
        helpers.assert_close(answer, np.clip(answer, low, high), dtype)


@many
@given(angular, seeds, dtypes, st.integers(-3, 50), st.integers(-3, 50))
def test_a_power_of_two_in_front_changes_nothing(operator, seed, dtype, of_x, of_w):
    if dtype == "float16":
        of_x, of_w = of_x % 6, of_w % 6
    arrays = drawn(operator, seed, dtype=dtype)
    above_eps = [256 * np.sign(a) * (1 + abs(a) % 1) for a in arrays]
    powers = 2.0**of_x, 2.0**of_w
    scaled = [a * power for a, power in zip(above_eps, powers, strict=True)]
    one, other = (
        compiled(operator, *(a.astype(jnp.dtype(dtype)) for a in pair))
        for pair in (above_eps, scaled)
    )
    np.testing.assert_array_equal(other, one)


@pytest.mark.slow
@many
@given(operators, st.lists(st.tuples(seeds, sizes, sizes), min_size=4, max_size=4))
def test_values_and_slopes_are_finite(operator, several):
    for seed, *scales in several:
        data = [(kind, "float32", scales) for kind in KINDS] + [("any bits", "float16")]
        for more in data:
            arrays = *drawn(operator, seed, *more), weights_for(operator)
            chex.assert_tree_all_finite(compiled_with_slopes(operator, *arrays))


def second_derivatives(operator, arrays):
    flat, unravel = ravel_pytree(arrays)
    total = lambda flat: jnp.vdot(operator(*unravel(flat)), weights_for(operator))  # noqa: E731
    return jax.hessian(total)(flat), jax.jacfwd(jax.jacfwd(total))(flat)


@pytest.mark.slow
@pytest.mark.parametrize("is_decoupled", [False, True])
@pytest.mark.parametrize("similarity", SIMILARITIES)
@given(seed=seeds)
@few
def test_second_derivatives_are_those_of_the_reference(similarity, is_decoupled, seed):
    operator = Operator(Geometry((1, 3, 2), (2, 2, 2)), similarity, is_decoupled)
    arrays, along = drawn(operator, seed), drawn(operator, seed + 1)
    reverse, forward = jax.jit(second_derivatives, static_argnums=0)(operator, arrays)
    size = np.max(np.abs(reverse))
    np.testing.assert_allclose(reverse, forward, atol=1e-5 * size)

    def moved(step):
        to = lambda a, b: np.float64(a) + step * np.float64(b)  # noqa: E731
        return np.vdot(operator.truth(*map(to, arrays, along)), weights_for(operator))

    numeric = (moved(1e-4) - 2 * moved(0.0) + moved(-1e-4)) / 1e-8
    direction = ravel_pytree(along)[0]
    exact = direction @ np.float64(reverse) @ direction
    np.testing.assert_allclose(exact, numeric, rtol=1e-3, atol=1e-3 * size)


assert_same = functools.partial(chex.assert_trees_all_close, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@few
@given(operators, seeds)
def test_transformations_change_nothing(operator, seed):
    x, kernel = jax.device_put(drawn(operator, seed))
    weights = weights_for(operator)
    answer, slopes = expected = compiled_with_slopes(operator, x, kernel, weights)
    chex.clear_trace_counter()
    traced_once = jax.jit(chex.assert_max_traces(lambda *a: operator(*a), n=1))
    assert_same(traced_once(x, kernel), answer)
    assert_same(traced_once(x, -kernel), -answer)
    assert_same(operator(x, kernel), answer)  # eager
    by_example = jax.jit(jax.vmap(lambda one: operator(one[None], kernel)[0]))(x)
    assert_same(by_example, answer)
    by_kernel = jax.jit(jax.vmap(operator, (None, 0)))(x, jnp.stack([kernel, -kernel]))
    assert_same(by_kernel, jnp.stack([answer, -answer]))
    remade = functools.partial(with_slopes, jax.checkpoint(operator.__call__))
    assert_same(jax.jit(remade)(x, kernel, weights), expected)
    tangents = tuple(drawn(operator, seed + 1))
    forward = jax.jit(lambda *a: jax.jvp(operator, *a)[1])((x, kernel), tangents)
    products = jax.tree.map(np.vdot, tangents, slopes)
    np.testing.assert_allclose(np.vdot(weights, forward), sum(products), 1e-3, 1e-4)


@pytest.mark.slow
@few
@given(every([DENSE, LINE, PLANE]), similarities, seeds)
def test_a_scan_over_layers_is_a_loop(geometry, similarity, seed):
    operator = Operator(geometry, similarity)
    x = drawn(operator, seed)[0]
    kernels = reference.normal(3, *geometry.kernel[:-1], x.shape[-1], seed=seed)
    scan = lambda x, ws: jax.lax.scan(lambda x, w: (operator(x, w), None), x, ws)[0]  # noqa: E731
    loop = lambda x, ws: functools.reduce(operator, ws, x)  # noqa: E731
    scanned, looped = (
        jax.jit(functools.partial(with_slopes, f))(x, kernels, x) for f in (scan, loop)
    )
    assert_same(scanned, looped)


MARGIN_LOSSES = {
    "normface": functools.partial(losses.normface, scale=16.0),
    "cosface": functools.partial(losses.cosface, scale=16.0),
    "arcface": functools.partial(losses.arcface, scale=16.0),
    "combined": functools.partial(losses.combined_margin, scale=16.0),
    "sphereface": losses.sphereface,
    "sphereface_r": losses.sphereface_r,
    "sphereface2": functools.partial(losses.sphereface2, bias=1.0),
    "madacos": losses.madacos,
}


@jax.jit
def losses_and_slopes(features, centres, labels):
    """Of each margin loss, and of the centres."""

    def total(centres, loss):
        cos, _ = ops.angular_head(features, centres, eps=1e-6)
        return jnp.sum(loss(cos, labels))

    return {
        name: jax.value_and_grad(total)(centres, loss)
        for name, loss in MARGIN_LOSSES.items()
    }


@pytest.mark.slow
@few
@given(seeds)
def test_classes_have_no_order_and_the_sphere_no_direction(seed):
    random = np.random.default_rng(seed)
    features, centres = random.normal(size=(6, 5)), random.normal(size=(5, 7))
    labels, order = random.integers(0, 7, 6).astype(np.int32), random.permutation(7)
    turn, _ = np.linalg.qr(random.normal(size=(5, 5)))
    lengths = np.exp(random.normal(size=(6, 1)))

    def answers(features, centres, labels):
        arrays = (np.float32(x) for x in (features, centres))
        return losses_and_slopes(*arrays, labels.astype(np.int32))

    plain = answers(features, centres, labels)
    permuted = answers(features, centres[:, order], np.argsort(order)[labels])
    turned = answers(features @ turn, turn.T @ centres, labels)
    longer = answers(features * lengths, centres, labels)
    for name, (loss, slope) in plain.items():
        room = dict(rtol=2e-4, atol=2e-4 * (1 + np.abs(slope).max()), err_msg=name)
        for other in (permuted, turned, longer):
            np.testing.assert_allclose(other[name][0], loss, **room)
        np.testing.assert_allclose(permuted[name][1], slope[:, order], **room)
        np.testing.assert_allclose(turned[name][1], turn.T @ slope, **room)
        np.testing.assert_allclose(longer[name][1], slope, **room)
