"""Optimizers whose filters stay on spheres, against published steps and slow loops."""

import functools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax

from hypersphere import optim
from tests import helpers

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "spheres.npz")
TARGET, WEIGHT = GOLDEN["opt/target"], GOLDEN["opt/weight"]
ROWS = {"axis": 1}  # a filter is a row there


def squares(w):
    return jnp.sum(WEIGHT * (w - TARGET) ** 2) / 2


def of_directions(w):
    return squares(w / jnp.linalg.norm(w, axis=1, keepdims=True))


def hyperball_loss(w):
    return jnp.sum((w - GOLDEN["hyperball_sgd/target"]) ** 2) / 2


MOMENTUM = dict(momentum=0.9, **ROWS)
DECAY = dict(weight_decay=0.01, **ROWS)
OBLIQUE = optax.chain(
    optax.trace(0.9),
    optim.tangent_projection(**ROWS),
    optax.scale(-0.05),
    optim.keep_unit_norm(**ROWS),
)
PUBLISHED = {
    "rsgd": (optim.riemannian_sgd(0.1, **ROWS), squares),
    "rsgd_exact": (optim.riemannian_sgd(0.1, exact=True, **ROWS), squares),
    "rsgd_momentum_geoopt": (
        optim.riemannian_sgd(0.1, starts_tangent=False, **MOMENTUM),
        squares,
    ),
    "radam": (optim.riemannian_adam(0.05, **ROWS), squares),
    "oblique_sgd": (OBLIQUE, squares),
    "adamp_generic": (optim.adamp(0.01, **DECAY), squares),
    "adamp_scale_invariant": (optim.adamp(0.01, **DECAY), of_directions),
    "sgdp_generic": (
        optim.sgdp(0.05, nesterov=True, momentum=0.9, **DECAY),
        squares,
    ),
    "hyperball_sgd": (optim.hyperball(optax.identity(), 0.02), hyperball_loss),
}


def start(name):
    if name == "hyperball_sgd":
        return GOLDEN["hyperball_sgd/W0"]
    is_free = name.startswith(("adamp", "sgdp"))
    return GOLDEN["opt/W0" if is_free else "opt/W0_unit"]


def steps_of(optimizer, loss, params, count):
    """The parameters after each step."""

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    return lax.scan(step, (params, optimizer.init(params)), length=count)[1]


def test_steps_are_the_published_ones():
    with jax.enable_x64(True):
        starts = {name: jax.device_put(start(name)) for name in PUBLISHED}

        @jax.jit
        def all_of_them(starts):
            return {
                name: steps_of(optimizer, loss, starts[name], 5)
                for name, (optimizer, loss) in PUBLISHED.items()
            }

        found = jax.tree.map(np.asarray, all_of_them(starts))
    for name, steps in found.items():
        np.testing.assert_allclose(
            steps, GOLDEN[f"{name}/steps"], atol=1e-9, err_msg=name
        )


def test_hyperspherical_descent_is_a_hyperball_around_a_projection():
    w, gradient, new = (
        GOLDEN[f"hyperspherical_descent/{n}"] for n in ("W", "G", "new")
    )
    optimizer = optim.hyperball(optim.tangent_projection(axis=(0, 1)), 0.1)
    with jax.enable_x64(True):
        step, _ = jax.jit(lambda g, w: optimizer.update(g, optimizer.init(w), w))(
            jax.device_put(gradient), jax.device_put(w)
        )
    np.testing.assert_allclose(w + np.asarray(step), new, atol=1e-9)


def slow_momentum(params, gradients, rate, momentum):
    """Projected descent whose momentum begins tangent, in float64 loops."""
    w = np.float64(params) / np.linalg.norm(params, axis=0)
    trace, found = np.zeros_like(w), []
    for gradient in np.float64(gradients):
        direction = gradient - w * np.sum(w * gradient, 0) + momentum * trace
        new = w - rate * direction
        new /= np.linalg.norm(new, axis=0)
        trace = direction - new * np.sum(new * direction, 0)
        w = new
        found.append(w)
    return found


def applied(optimizer, params, gradients):
    """The parameters after each of given gradients."""

    def step(carry, gradient):
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        return (params, state), params

    @jax.jit
    def all_of_them(params, gradients):
        return lax.scan(step, (params, optimizer.init(params)), gradients)[1]

    return all_of_them(params, gradients)


def drawn(*shape, seed=0):
    draw = np.random.default_rng(seed)
    return jax.device_put(draw.standard_normal(shape).astype(np.float32))


def test_momentum_begins_tangent_and_is_carried_along():
    params, gradients = drawn(4, 3), drawn(6, 4, 3, seed=1)
    found = applied(optim.riemannian_sgd(0.1, momentum=0.9), params, gradients)
    np.testing.assert_allclose(
        found, slow_momentum(params, gradients, 0.1, 0.9), atol=1e-5
    )


def test_parameters_without_filters_take_ordinary_steps():
    params = {"kernel": drawn(4, 3), "bias": drawn(3, seed=2), "gain": drawn(seed=3)}
    gradients = jax.tree.map(lambda x: drawn(3, *x.shape, seed=4), params)
    pairs = {
        "sgd": (optim.riemannian_sgd(0.1, momentum=0.9), optax.sgd(0.1, momentum=0.9)),
        "adam": (optim.riemannian_adam(0.1), optax.adam(0.1)),
        "adamp": (optim.adamp(0.1), optax.adam(0.1)),
        "sgdp": (optim.sgdp(0.1), optax.sgd(0.1)),
        "hyperball": (
            optim.hyperball(optax.scale_by_adam(), 0.1),
            optax.adam(0.1),
        ),
    }
    for name, (ours, theirs) in pairs.items():
        found = applied(ours, params, gradients)
        expected = applied(theirs, params, gradients)
        for leaf in ("bias", "gain"):
            np.testing.assert_allclose(
                found[leaf], expected[leaf], atol=1e-5, err_msg=name
            )


KEEPING = {
    "sgd": optim.riemannian_sgd(0.3, momentum=0.9),
    "exact sgd": optim.riemannian_sgd(0.3, momentum=0.9, exact=True),
    "adam": optim.riemannian_adam(0.1),
    "spherical": optim.spherical(optax.scale_by_adam(), 0.1),
    "projected": optax.chain(optax.sgd(0.3), optim.keep_unit_norm()),
}


@pytest.mark.parametrize("dtype", helpers.sampled(["float32", "bfloat16"], "float32"))
def test_filters_keep_their_length_over_many_steps(dtype):
    # All in one program; of the last dimension each column is a filter.
    start = np.array(drawn(2, 8, 16))
    start = jax.device_put((start / np.linalg.norm(start, axis=(0, 1))).astype(dtype))
    target = np.asarray(drawn(2, 8, 16, seed=1)).astype(dtype)
    loss = lambda w: jnp.sum(jnp.sin(3 * (w * target).astype(jnp.float32)))  # noqa: E731

    @jax.jit
    def many(start):
        def last(optimizer):
            def step(_, carry):
                params, state = carry
                updates, state = optimizer.update(jax.grad(loss)(params), state, params)
                return optax.apply_updates(params, updates), state

            return lax.fori_loop(0, 10_000, step, (start, optimizer.init(start)))[0]

        return {name: last(optimizer) for name, optimizer in KEEPING.items()}

    tolerance = 1e-6 if dtype == "float32" else 2.0**-8
    for name, params in many(start).items():
        assert params.dtype == dtype
        lengths = np.linalg.norm(np.float64(params), axis=(0, 1))
        np.testing.assert_allclose(lengths, 1, atol=tolerance, err_msg=name)
        assert not np.allclose(np.float64(params), np.float64(start)), name


def test_the_leading_eigenvector_is_found():
    basis, _ = np.linalg.qr(np.float64(drawn(6, 6)))
    matrix = jax.device_put(
        np.float32(basis @ np.diag([5, 3, 2, 1, 0.5, 0.1]) @ basis.T)
    )
    loss = lambda w: -jnp.sum(w * (matrix @ w))  # noqa: E731
    optimizers = {
        "sgd": optim.riemannian_sgd(0.05, momentum=0.5),
        "exact sgd": optim.riemannian_sgd(0.05, exact=True),
        "adam": optim.riemannian_adam(optax.cosine_decay_schedule(0.1, 300)),
        "hyperball": optim.hyperball(
            optax.identity(), optax.cosine_decay_schedule(0.1, 300)
        ),
        "projected": optax.chain(
            optim.tangent_projection(), optax.sgd(0.05), optim.keep_unit_norm()
        ),
    }
    start = drawn(6, 1, seed=5)

    @jax.jit
    def solved(start):
        return {
            name: steps_of(optimizer, loss, start, 300)[-1]
            for name, optimizer in optimizers.items()
        }

    for name, w in solved(start).items():
        found = np.abs(basis[:, 0] @ np.asarray(w)) / np.linalg.norm(w)
        assert found > 1 - 1e-4, name


def test_a_spherical_step_turns_every_filter_by_the_rate():
    params, gradient = drawn(4, 5), drawn(4, 5, seed=1)
    optimizer = optim.spherical(optim.tangent_projection(), 0.01)

    @jax.jit
    def step(params):
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        return params + updates, optim.effective_learning_rate([params], [updates])[0]

    new, angle = step(params)
    np.testing.assert_allclose(angle, np.arctan(0.01), rtol=1e-4)
    lengths = [np.linalg.norm(np.asarray(x), axis=0) for x in (new, params)]
    np.testing.assert_allclose(*lengths, rtol=1e-6)


def test_the_norm_of_the_beginning_is_kept_at_its_steps():
    params, gradients = drawn(4, 3), drawn(4, 4, 3, seed=1)
    optimizer = optax.chain(optax.sgd(0.5), optim.keep_norm(every=2))
    norms = np.linalg.norm(applied(optimizer, params, gradients), axis=(1, 2))
    np.testing.assert_allclose(norms[[1, 3]], np.linalg.norm(params), rtol=1e-6)
    assert abs(norms[0] - norms[1]) > 1e-2 < abs(norms[2] - norms[3])


OPTIMIZERS = {
    "riemannian_sgd": functools.partial(optim.riemannian_sgd, momentum=0.9),
    "riemannian_adam": optim.riemannian_adam,
    "hyperball": functools.partial(optim.hyperball, optax.scale_by_adam()),
    "spherical": functools.partial(optim.spherical, optax.scale_by_adam()),
    "adamp": optim.adamp,
    "sgdp": functools.partial(optim.sgdp, momentum=0.9),
}


@pytest.mark.parametrize(
    "name", helpers.sampled(OPTIMIZERS, "riemannian_adam", "hyperball")
)
def test_they_compose_and_are_traced_once(name):
    make = OPTIMIZERS[name]
    params = {"kernel": drawn(4, 3), "plain": drawn(4, 2, seed=1)}
    mask = {"kernel": True, "plain": False}

    def injected(learning_rate):
        return optax.chain(optax.clip_by_global_norm(1.0), make(learning_rate))

    optimizer = optax.MultiSteps(
        optax.masked(optax.inject_hyperparams(injected)(0.1), mask), 2
    )
    traces = []

    @jax.jit
    def step(params, state, gradients):
        traces.append(None)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state

    state = jax.jit(optimizer.init)(params)
    gradients = jax.tree.map(lambda x: drawn(*x.shape, seed=9), params)
    for _ in range(4):
        params, state = step(params, state, gradients)
    assert len(traces) == 1
    chex.assert_tree_all_finite(params)


@pytest.mark.parametrize("name", [*OPTIMIZERS, "tangent_projection", "keep_norm"])
def test_an_update_without_parameters_says_what_it_needs(name):
    make = OPTIMIZERS.get(name)
    optimizer = make(0.1) if make else getattr(optim, name)()
    params = drawn(2, 2)
    with pytest.raises(ValueError, match=f"`{name}` needs the parameters"):
        optimizer.update(params, optimizer.init(params))


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.riemannian_sgd(0.1, momentum=1.5),
        lambda: optim.riemannian_adam(0.1, b1=-0.1),
        lambda: optim.adamp(0.1, delta=0.0),
        lambda: optim.sgdp(0.1, decay_ratio=2.0),
        lambda: optim.tangent_projection(eps=0.0),
        lambda: optim.keep_norm(every=0),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match=r"needs"):
        make()
