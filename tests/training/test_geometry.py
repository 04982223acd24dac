"""How far a step turns filters, and where they are."""

import jax
import numpy as np

from hypersphere.training.compute._geometry import geometry
from tests.training.small import config_of, fresh, set_up, train_images


def test_turns_and_energies_are_those_of_the_loop():
    random = np.random.default_rng(0)
    before, update, slope = random.standard_normal((3, 3, 2, 4)).astype(np.float32)
    params = {"conv": {"kernel": before, "bias": np.ones(4, np.float32)}}
    updates = {"conv": {"kernel": update, "bias": np.ones(4, np.float32)}}
    slopes = {"conv": {"kernel": slope, "bias": np.ones(4, np.float32)}}
    after = jax.tree.map(np.add, params, updates)
    found = jax.jit(geometry)(params, slopes, updates, after)
    old, new = (
        (x / np.linalg.norm(x, axis=0)).T
        for x in (before.reshape(6, 4), after["conv"]["kernel"].reshape(6, 4))
    )
    angles = [np.arccos(np.dot(a, b)) for a, b in zip(old, new, strict=True)]
    pairs = [(i, j) for i in range(4) for j in range(i)]
    energies = [1 / np.linalg.norm(new[i] - new[j]) for i, j in pairs]
    kinds = ("turn", "gradient", "energy")
    assert set(found) == {f"{kind}/conv.kernel" for kind in kinds}
    root = np.sqrt((np.float64(slope) ** 2).sum())
    np.testing.assert_allclose(found["gradient/conv.kernel"], root, rtol=1e-5)
    np.testing.assert_allclose(found["turn/conv.kernel"], np.mean(angles), rtol=1e-5)
    np.testing.assert_allclose(
        found["energy/conv.kernel"], np.mean(energies), rtol=1e-5
    )


def test_a_step_tells_them_when_asked_to():
    def told(**fields):
        setup = set_up(config_of(fields))
        images, labels = train_images(setup, 0)
        _, metrics = jax.eval_shape(
            setup.program.task.update, fresh(setup), images, labels
        )
        return set(metrics)

    more = told(log_geometry=True) - told()
    kinds = {name.partition("/")[0] for name in more}
    paths = {name.partition("/")[2] for name in more}
    assert kinds == {"turn", "gradient", "energy"}
    assert len(more) == 3 * len(paths)
    assert "head.kernel" in paths and not any("bias" in path for path in paths)
