import functools
import pathlib

import jax
import numpy as np
import optax
import pytest
from jax import lax

from hypersphere import optim, regularizers

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "energies.npz")
W, POLE = GOLDEN["filters/W"], GOLDEN["uniformity_pole/v"]
energy = regularizers.hyperspherical_energy


def to_pole(function, **options):
    return lambda w: function(w, jax.device_put(POLE), **options)


OF_FILTERS = {
    f"mhe_{kind}{power}_half{half}_exact": functools.partial(
        energy, power=power, angular=kind == "a", half_space=bool(half)
    )
    for kind in "ea"
    for power in (0, 1, 2)
    for half in (0, 1)
    # Of the logarithm of the squared distance, as the authors' code has it: twice ours.
    if (kind, power) != ("e", 0)
}
OF_FILTERS |= {
    "mhs_half0_exact": regularizers.separation,
    "mgd_half0_exact": regularizers.gram_determinant,
    "mhp_half0_exact": to_pole(regularizers.polarization),
    "mhp_half1_exact": to_pole(regularizers.polarization, half_space=True),
    "mhc_half0_exact": to_pole(regularizers.covering),
    "mhc_half1_exact": to_pole(regularizers.covering, half_space=True),
}


def test_values_and_slopes_are_the_published_ones():
    known = {
        name: part
        for name in OF_FILTERS
        for part in ("mean", "value")
        if f"{name}/{part}" in GOLDEN
    }
    assert len(known) == 14

    @jax.jit
    def all_of_them(w):
        return {name: jax.value_and_grad(OF_FILTERS[name])(w) for name in known}

    with jax.enable_x64(True):
        found = jax.tree.map(np.asarray, all_of_them(jax.device_put(W)))
    for name, (value, slope) in found.items():
        np.testing.assert_allclose(
            value, GOLDEN[f"{name}/{known[name]}"], rtol=1e-9, err_msg=name
        )
        if f"{name}/dW" in GOLDEN:
            truth = GOLDEN[f"{name}/dW"]
            np.testing.assert_allclose(slope, truth, atol=1e-9, err_msg=name)


# What the authors' code has in place of ours: (factor, summand).
UNITS = {
    ("e", 0): (2.0, 0.0),
    ("e", 1): (1.0, 0.0),
    ("e", 2): (1.0, 0.0),
    ("a", 0): (1.0, np.log(np.pi)),
    ("a", 1): (np.pi, 0.0),
    ("a", 2): (np.pi**2, 0.0),
}


def test_the_authors_code_has_the_units_that_the_page_tells():
    @jax.jit
    def all_of_them(w):
        energies = {
            (kind, power, half): energy(
                w, power=power, angular=kind == "a", half_space=bool(half)
            )
            for kind, power in UNITS
            for half in (0, 1)
        }
        return energies, regularizers.separation(w), regularizers.gram_determinant(w)

    near = {"e": 1e-4, "a": 1e-3}  # it adds small numbers to lengths and angles
    with jax.enable_x64(True):
        found, separation, volume = all_of_them(jax.device_put(W))
    for (kind, power, half), value in found.items():
        factor, more = UNITS[kind, power]
        theirs = GOLDEN[f"mhe_{kind}{power}_half{half}_tf/mean"]
        ours = factor * float(value) + more
        np.testing.assert_allclose(ours, theirs, rtol=near[kind])
    np.testing.assert_allclose(separation, GOLDEN["mhs_half0_tf/value"], rtol=1e-3)
    np.testing.assert_allclose(volume, GOLDEN["mgd_half0_tf/value"], rtol=2e-3)


def test_penalties_on_class_centres_are_the_published_ones():
    pairs = {
        "regular_face": regularizers.nearest_cosine,
        "center_invariant": regularizers.length_variance,
    }
    with jax.enable_x64(True):
        for name, penalty in pairs.items():
            centres = jax.device_put(GOLDEN[f"{name}/w"].T)
            value, slope = jax.jit(jax.value_and_grad(penalty))(centres)
            np.testing.assert_allclose(value, GOLDEN[f"{name}/mean"], rtol=1e-9)
            np.testing.assert_allclose(slope, GOLDEN[f"{name}/dw"].T, atol=1e-9)


def test_projected_energies_are_the_published_ones_but_for_their_eps():
    maps = jax.device_put(np.float32(GOLDEN["comhe/projections"]))
    both = jax.jit(
        lambda w: [
            energy(w, power=2, half_space=half, projections=maps)
            for half in (False, True)
        ]
    )
    for half, value in enumerate(both(jax.device_put(np.float32(W)))):
        assert abs(value - GOLDEN[f"comhe_half{half}/mean"]) < 1e-4


def slow(w, power, angular, half_space):
    """Pair by pair, in float64; with opposites in the set if asked to."""
    filters = (w / np.linalg.norm(w, axis=0)).T
    filters = [*filters, *-filters] if half_space else filters
    found = []
    for i, one in enumerate(filters):
        for other in filters[:i]:
            cos = np.clip(one @ other, -1, 1)
            d = np.arccos(cos) if angular else np.linalg.norm(one - other)
            found.append(-np.log(d) if power == 0 else d**-power)
    return np.mean(found)


def test_blocks_opposites_and_logarithms_are_those_of_the_loop(draw):
    w = draw((3, 2, 7))
    cases = [
        dict(power=power, angular=angular, half_space=half)
        for power in (0, 1, 2)
        for angular in (False, True)
        for half in (False, True)
    ]
    every = jax.jit(
        lambda w: [[energy(w, **case, block=b) for b in (0, 3, 50)] for case in cases]
    )
    for case, found in zip(cases, every(w), strict=True):
        truth = slow(np.float64(w).reshape(6, 7), **case)
        np.testing.assert_allclose(found, truth, rtol=2e-5, err_msg=str(case))


def test_blocks_have_the_same_slopes_and_need_less_memory(draw):
    w = draw((4, 300))
    slope = lambda block: jax.jit(jax.grad(lambda w: energy(w, block=block)))  # noqa: E731
    whole, parts = (slope(block).lower(w).compile() for block in (0, 20))
    np.testing.assert_allclose(parts(w), whole(w), atol=1e-6)
    sizes = [f.memory_analysis().temp_size_in_bytes for f in (whole, parts)]
    assert sizes[1] < sizes[0] / 4


def test_the_least_energies_are_those_of_the_platonic_bodies():
    counts = {"tetrahedron": 4, "octahedron": 6, "icosahedron": 12}
    schedule = optax.cosine_decay_schedule(0.1, 600)
    optimizer = optim.riemannian_adam(schedule)

    @jax.jit
    def settled(start):
        def least(w):
            def step(_, carry):
                w, state = carry
                updates, state = optimizer.update(jax.grad(energy)(w), state, w)
                return optax.apply_updates(w, updates), state

            return energy(lax.fori_loop(0, 600, step, (w, optimizer.init(w)))[0])

        return jax.tree.map(least, start)

    for seed in range(3):
        draw = np.random.default_rng(seed)
        start = {
            name: jax.device_put(draw.standard_normal((3, n)).astype(np.float32))
            for name, n in counts.items()
        }
        for name, value in settled(start).items():
            pairs = counts[name] * (counts[name] - 1) / 2
            truth = GOLDEN[f"known_{name}/sum_inverse"] / pairs
            assert truth * (1 - 1e-6) < value < truth * (1 + 1e-4), (name, seed)


def test_filters_on_one_another_and_opposite_ones_have_slopes():
    w = jax.device_put(np.float32([[1, 1, -1, 0], [0, 0, 0, 1]]))

    cases = [
        dict(power=power, angular=angular, half_space=half)
        for power in (0, 1, 2)
        for angular in (False, True)
        for half in (False, True)
    ]
    slopes = jax.jit(
        lambda w: [jax.grad(functools.partial(energy, **case))(w) for case in cases]
    )
    assert all(np.isfinite(np.asarray(slope)).all() for slope in slopes(w))


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda w: energy(w, power=3), "`power` 0, 1 or 2, got `power=3`"),
        (lambda w: energy(w[:, :1]), "at least two filters"),
        (lambda w: regularizers.separation(w[0]), "at least two filters"),
        (lambda w: regularizers.covering(w, w[:, 0], gamma=0.0), "`gamma > 0`"),
        (lambda w: regularizers.uniformity(w[:1]), "at least two examples"),
        (lambda w: regularizers.koleo(w, eps=0.0), "`eps > 0`"),
        (lambda w: regularizers.alignment(w, w, power=-1.0), "`power > 0`"),
    ],
)
def test_wrong_arguments_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call(jax.device_put(np.ones((3, 4), np.float32)))
