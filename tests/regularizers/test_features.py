import pathlib

import jax
import numpy as np

from hypersphere import regularizers

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "energies.npz")


def test_values_and_slopes_are_the_published_ones():
    with jax.enable_x64(True):
        names = "koleo/x", "uniformity_t2/x", "alignment_alpha2/x", "alignment_alpha2/y"
        arrays = [jax.device_put(GOLDEN[name]) for name in names]

        @jax.jit
        def all_of_them(near, x, one, other):
            slope = jax.value_and_grad
            return {
                "koleo/mean": slope(regularizers.koleo)(near),
                "uniformity_t2/value": slope(regularizers.uniformity)(x),
                "alignment_alpha2/mean": slope(regularizers.alignment)(one, other),
            }

        found = jax.tree.map(np.asarray, all_of_them(*arrays))
    for name, (value, slope) in found.items():
        group = name.partition("/")[0]
        # KoLeo's code adds its eps twice.
        np.testing.assert_allclose(value, GOLDEN[name], atol=1e-8, err_msg=name)
        x, truth = GOLDEN[f"{group}/x"], GOLDEN[f"{group}/dx"]
        if group != "koleo":  # published for features that are units already
            truth = truth - x * np.sum(x * truth, -1, keepdims=True)
        np.testing.assert_allclose(slope, truth, atol=1e-8, err_msg=name)


def test_another_power_is_that_of_the_distances(draw):
    x, y = draw((5, 3)), draw((5, 3))
    found = jax.jit(lambda x, y: regularizers.alignment(x, y, power=1.0))(x, y)
    x, y = (np.float64(a) / np.linalg.norm(a, axis=1, keepdims=True) for a in (x, y))
    np.testing.assert_allclose(found, np.mean(np.linalg.norm(x - y, axis=1)), rtol=1e-5)
