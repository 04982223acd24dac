import functools
import pathlib

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import regularizers
from hypersphere.regularizers._orthogonality import FORMS
from tests import helpers, reference

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
ENERGIES = np.load(GOLDEN / "energies.npz")
PUBLISHED = {  # of rows there
    f"orth_{form}_{shape}": form
    for form in (*FORMS, "srip_official")
    for shape in ("5x6", "6x5")
    if f"orth_{form}_{shape}/value" in ENERGIES
}


def published(name, form):
    """The function that a row is of."""
    if form != "srip_official":
        return functools.partial(regularizers.orthogonality, form=form)
    start = jax.device_put(ENERGIES[f"{name}/b"][:, 0])
    return functools.partial(regularizers.orthogonality, form="srip", start=start)


orthogonality = jax.jit(regularizers.orthogonality)
value_and_gradient = jax.jit(jax.value_and_grad(regularizers.orthogonality))


@pytest.mark.parametrize("shape", [(5, 3), (2, 6), (3, 2, 2, 4), (2, 2, 1, 2, 7)])
def test_equals_the_loop_over_pairs_of_filters(shape):
    kernel = reference.normal(*shape)
    helpers.assert_close(orthogonality(kernel), reference.orthogonality(kernel))


def test_stays_float64():
    kernel = np.float64(reference.normal(3, 2, 2, 4))
    with jax.enable_x64(True):
        penalty = orthogonality(kernel)
        assert penalty.dtype == jnp.float64
        truth = reference.orthogonality(kernel)
        helpers.assert_close(penalty, truth, "float64")


def orthonormal(rows, columns):
    return np.linalg.qr(np.float64(reference.normal(rows, columns)))[0]


def test_is_zero_for_orthonormal_filters_and_no_others():
    kernel = np.float32(orthonormal(12, 4)).reshape(3, 2, 2, 4)
    helpers.assert_close(orthogonality(kernel), 0.0)
    assert float(orthogonality(kernel * 1.1)) == pytest.approx(4 * 0.21**2, rel=1e-4)
    assert float(orthogonality(kernel[..., [0, 1, 2, 2]])) == pytest.approx(2.0)


def test_cannot_fall_below_the_filters_too_many_and_reaches_that():
    tight = np.float32(orthonormal(9, 4).T)  # nine filters in four dimensions
    assert float(orthogonality(tight)) == pytest.approx(9 - 4, rel=1e-5)
    for seed in range(3):
        assert float(orthogonality(reference.normal(4, 9, seed=seed))) > 9 - 4


def test_ignores_a_rotation_of_the_filters_and_their_order():
    kernel = reference.normal(6, 4)
    turned = np.float32(orthonormal(6, 6)) @ kernel[:, [2, 0, 3, 1]]
    helpers.assert_close(orthogonality(turned), np.float64(orthogonality(kernel)))


def test_is_that_of_the_authors_code():
    golden = np.load(GOLDEN / "official_sphereconv.npz")
    penalties = [golden[key] for key in golden if key.endswith("_orth")]
    assert len(penalties) >= 10
    ours = 1e-4 * np.float64(orthogonality(golden["w"]))
    np.testing.assert_allclose(penalties, ours, rtol=1e-5)


def test_gradients_agree_with_finite_differences_and_the_formula():
    kernel = reference.normal(3, 2, 4) / 2
    helpers.check_gradients(orthogonality, kernel, order=2)
    filters = np.float64(kernel).reshape(6, 4)
    truth = 4 * filters @ (filters.T @ filters - np.eye(4))
    _, gradient = value_and_gradient(kernel)
    helpers.assert_close(np.reshape(gradient, (6, 4)), truth)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_summed_in_float32(dtype):
    kernel = reference.normal(3, 3, 128, 4).astype(dtype)
    penalty, gradient = value_and_gradient(kernel)
    assert penalty.dtype == jnp.float32
    # The squared lengths are about 1000 and exact to 1e-7 of that.
    np.testing.assert_allclose(penalty, reference.orthogonality(kernel), rtol=1e-5)
    assert gradient.dtype == dtype


def test_gradients_are_finite_from_nothing_to_a_billion():
    for size in (0.0, 1e-20, 1e9):
        kernel = reference.normal(3, 2, 4) * np.float32(size)
        chex.assert_tree_all_finite(value_and_gradient(kernel))


def test_bad_kernels_are_named(as_a_user):
    with pytest.raises(
        ValueError, match=r"`kernel\.ndim >= 2`.*got `kernel\.shape=\(4,\)`"
    ):
        regularizers.orthogonality(np.zeros(4, np.float32))
    with pytest.raises(
        TypeError, match=r"`orthogonality` needs real.*`kernel\.dtype=int32`"
    ):
        regularizers.orthogonality(np.zeros((4, 4), np.int32))


def test_every_form_has_the_published_value_and_slope():
    assert set(PUBLISHED.values()) == {*FORMS, "srip_official"}
    with jax.enable_x64(True):
        # Filters are the rows there, and the code takes the smaller Gram matrix.
        starts = {
            name: jax.device_put(ENERGIES[f"{name.replace('_official', '')}/W"].T)
            for name in PUBLISHED
        }

        @jax.jit
        def all_of_them(starts):
            return {
                name: jax.value_and_grad(published(name, form))(starts[name])
                for name, form in PUBLISHED.items()
            }

        found = jax.tree.map(np.asarray, all_of_them(starts))
    for name, (value, slope) in found.items():
        truth = ENERGIES[f"{name}/value"], ENERGIES[f"{name}/dW"].T
        np.testing.assert_allclose(value, truth[0], rtol=1e-9, err_msg=name)
        np.testing.assert_allclose(slope, truth[1], atol=1e-8, err_msg=name)


def test_another_form_is_refused():
    with pytest.raises(ValueError, match="forms so, dso, mc, mc_entry, srip, got"):
        regularizers.orthogonality(jnp.eye(2), form="soft")
    for form, length in (("so", 2), ("srip", 3)):
        with pytest.raises(ValueError, match=r"`start` for .*`start.shape="):
            regularizers.orthogonality(jnp.eye(2), form=form, start=jnp.ones(length))
