"""Muon's relatives, against published steps and slow loops."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import optim

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "muon.npz")


def one_step(optimizer, params, gradient):
    @jax.jit
    def step(params, gradient):
        updates, _ = optimizer.update(gradient, optimizer.init(params), params)
        return params + updates

    return np.asarray(step(params, gradient))


@pytest.mark.parametrize("name", ["manifold_muon_100", "manifold_muon_2000"])
def test_a_step_along_the_manifold_is_the_published_one(name):
    w, g, eta, rate, steps, new = (
        GOLDEN[f"{name}/{key}"] for key in ("W", "G", "eta", "alpha", "steps", "new")
    )
    with jax.enable_x64(True):
        optimizer = optim.manifold_muon(
            float(eta), dual_rate=float(rate), dual_steps=int(steps), tolerance=0.0
        )
        found = one_step(optimizer, jnp.asarray(w), jnp.asarray(g))
    np.testing.assert_allclose(found, new, atol=1e-9)


def test_kernels_are_matrices_with_orthonormal_columns_or_rows():
    random = np.random.default_rng(0)
    optimizer = optim.manifold_muon(0.1, dual_steps=20)
    for shape in ((3, 3, 2, 5), (1, 1, 3, 8)):
        kernel, gradient = random.standard_normal((2, *shape)).astype(np.float32)
        new = one_step(optimizer, kernel, gradient).reshape(-1, shape[-1])
        rows, columns = new.shape
        gram = new.T @ new if rows > columns else new @ new.T
        np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16, np.float16])
def test_steps_are_finite_at_every_size(dtype):
    random = np.random.default_rng(3)
    optimizer = optim.manifold_muon(0.1, dual_steps=3)
    for size, slope in ((1.0, 0.0), (0.0, 1.0), (1e-4, 1e-4), (1e4, 1e4)):
        w, g = random.standard_normal((2, 5, 3)).astype(np.float32)
        found = one_step(optimizer, (w * size).astype(dtype), (g * slope).astype(dtype))
        assert found.dtype == dtype and np.isfinite(np.float32(found)).all()


def test_without_a_gradient_nothing_moves_and_vectors_take_plain_steps():
    optimizer = optim.manifold_muon(0.5, dual_steps=5)
    still = np.linalg.qr(np.random.default_rng(0).standard_normal((4, 3)))[0]
    still = still.astype(np.float32)
    np.testing.assert_allclose(
        one_step(optimizer, still, np.zeros_like(still)), still, atol=1e-6
    )
    ones = np.ones(3, np.float32)
    np.testing.assert_allclose(one_step(optimizer, ones, ones), 0.5 * ones)


def test_the_loss_falls_as_far_as_the_least_singular_bound_allows():
    """The smallest <G, A> over tangent A of norm one is reached: dual equals primal."""
    random = np.random.default_rng(1)
    w = np.linalg.qr(random.standard_normal((6, 4)))[0]
    g = random.standard_normal((6, 4))
    with jax.enable_x64(True):
        optimizer = optim.manifold_muon(1e-6, dual_rate=0.05, dual_steps=2000)
        new = one_step(optimizer, jnp.asarray(w), jnp.asarray(g))
    gained = np.sum(g * (w - new)) / 1e-6
    # Any tangent of spectral norm one lowers it less: of many, the best ones.
    tangents = random.standard_normal((2000, 6, 4))
    normal = np.einsum("ji,njk->nik", w, tangents)
    tangents -= np.einsum("ij,njk->nik", w, normal + normal.swapaxes(1, 2)) / 2
    tangents /= np.linalg.norm(tangents, 2, axis=(1, 2))[:, None, None]
    assert gained > np.einsum("ij,nij->n", g, tangents).max()
    assert gained <= np.linalg.norm(g, "nuc") + 1e-6


def test_filters_move_by_the_root_of_their_mean_squares_and_the_norm_stays():
    directions = np.random.default_rng(2).standard_normal((4, 3, 2, 5))
    directions *= np.geomspace(0.1, 10, 5)
    directions = directions.astype(np.float32)
    evened = optim.scale_by_filter_rms(0.9)
    update = jax.jit(evened.update)
    state = jax.jit(evened.init)(directions[0])
    square = np.zeros(5)
    for along in directions:
        found, state = update(along, state)
        square = 0.9 * square + 0.1 * np.mean(np.float64(along) ** 2, axis=(0, 1))
        truth = along / np.sqrt(square)
        truth *= np.linalg.norm(along) / np.linalg.norm(truth)
        np.testing.assert_allclose(found, truth, rtol=2e-6)
    bias = jnp.ones(3)
    np.testing.assert_array_equal(evened.update(bias, evened.init(bias))[0], bias)


@pytest.mark.parametrize(
    "make",
    [
        lambda: optim.scale_by_filter_rms(1.0),
        lambda: optim.scale_by_filter_rms(eps=0.0),
        lambda: optim.manifold_muon(0.1, dual_rate=0.0),
        lambda: optim.manifold_muon(0.1, dual_steps=0),
    ],
)
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="needs .*`"):
        make()
