"""Cosines in chunks: the losses and gradients of all cosines, in less memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import losses, ops
from tests import reference

LABELS = jax.device_put(np.array([0, 10, 3, 3, 7, 5], np.int32))
WEIGHTS = np.arange(1, 7, dtype=np.float32)


def with_norms(loss):
    return lambda cos, labels, norms: loss(cos, labels, feature_norm=norms)


LOSSES = {
    "normface": lambda c, y, n: losses.normface(c, y, scale=8.0),
    "arcface": lambda c, y, n: losses.arcface(c, y, scale=16.0),
    "cosface, margins": lambda c, y, n: losses.cosface(
        c, y, margin=jnp.linspace(0.1, 0.9, c.shape[1]), scale=n[:, None]
    ),
    "sphereface_r": lambda c, y, n: losses.sphereface_r(c, y, version="v2"),
    "adaface": lambda c, y, n: losses.adaface(
        c, y, losses.AdaFaceState(), feature_norm=n
    )[0],
    "magface": lambda c, y, n: losses.magface(c, y, feature_norm=20 * n),
    "curricularface": lambda c, y, n: losses.curricularface(
        c, y, losses.CurricularFaceState(0.3)
    )[0],
    "w_softmax": with_norms(losses.w_softmax),
    "ga_softmax": with_norms(losses.ga_softmax),
}
FEW = {name: LOSSES[name] for name in ("arcface", "curricularface")}
ONE = {"arcface": LOSSES["arcface"]}
GEOMETRIES = {  # classes, centres, shards, chunk; and which losses
    "every loss": (11, 1, 1, 4, LOSSES),
    "a chunk of all": (11, 1, 1, 99, ONE),
    "subcentres, shards and padding": (11, 3, 4, 2, FEW),
    "a class a chunk": (11, 1, 1, 1, ONE),
}


FAST = "subcentres, shards and padding"


@functools.cache
def answers(name):
    """Losses, gradients and nearest classes, of chunks and of all cosines."""
    classes, centres, shards, chunk, chosen = GEOMETRIES[name]
    columns = -(-classes // shards) * shards * centres
    x, kernel = reference.normal(6, 5), reference.normal(5, columns, seed=2)

    def cosines(x, kernel, size):
        return ops.angular_head(
            x,
            kernel,
            num_classes=classes,
            centres=centres,
            shards=shards,
            chunk=size,
        )

    @jax.jit
    def found(x, kernel):
        def one(loss, size):
            def total(x, kernel):
                each = loss(
                    cosines(x, kernel, size)[0], LABELS, jnp.linalg.norm(x, axis=-1)
                )
                return jnp.sum(WEIGHTS * each), each

            return jax.grad(total, (0, 1), has_aux=True)(x, kernel)

        nearest = [cosines(x, kernel, size)[0].argmax(-1) for size in (chunk, 0)]
        return {k: (one(f, chunk), one(f, 0)) for k, f in chosen.items()}, nearest

    return found(x.astype(np.float32), kernel.astype(np.float32))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name == FAST else pytest.mark.slow)
        for name in GEOMETRIES
    ],
)
def test_losses_and_gradients_are_those_of_all_cosines(name):
    found, nearest = answers(name)
    np.testing.assert_array_equal(*nearest)
    for loss, pair in found.items():
        for ours, truth in zip(*map(jax.tree.leaves, pair), strict=True):
            size = np.abs(truth).max()
            np.testing.assert_allclose(ours, truth, atol=1e-5 * size, err_msg=loss)


@pytest.mark.slow
def test_memory_grows_by_the_gradient_of_the_centres_alone():
    def memory(classes):
        step = jax.jit(
            jax.grad(
                lambda kernel, x: jnp.sum(
                    losses.arcface(
                        ops.angular_head(x, kernel, chunk=256)[0], jnp.arange(64)
                    )
                )
            )
        )
        kernel = jax.ShapeDtypeStruct((8, classes), jnp.float32)
        x = jax.ShapeDtypeStruct((64, 8), jnp.float32)
        return step.lower(kernel, x).compile().memory_analysis().temp_size_in_bytes

    centres = 4 * 8 * (16_384 - 4096)
    assert memory(16_384) - memory(4096) <= 1.05 * centres
    assert memory(4096) < 4 * 64 * 4096  # all cosines


def test_gradients_are_finite_at_every_end_in_half_precision():
    x = np.array([[1e4, 0.0], [0.0, 0.0], [-1.0, 0.0]], np.float16)
    kernel = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]], jnp.bfloat16)

    @jax.jit
    def slopes(x, kernel):
        def total(x, kernel):
            cos, _ = ops.angular_head(x, kernel, chunk=3)
            return jnp.sum(losses.arcface(cos, jnp.array([0, 1, 0]), scale=300.0))

        return jax.value_and_grad(total, (0, 1))(x, kernel)

    for found in jax.tree.leaves(slopes(x, kernel)):
        assert np.isfinite(np.asarray(found, np.float32)).all()


@pytest.fixture
def cos(draw):
    features, kernel = jax.device_put((draw((6, 5)), draw((5, 4))))
    return ops.ChunkedCosines(features=features, kernel=kernel, num_classes=4)


def test_what_needs_all_cosines_is_refused_with_the_way_out(cos):
    labels = jax.device_put(np.zeros(6, np.int32))
    bare = "needs the cosines to all classes at once.*chunk=0.*head.level='full'"
    with pytest.raises(ValueError, match=f"`adacos` {bare}"):
        losses.adacos(cos, labels, losses.adacos_start(4))
    with pytest.raises(ValueError, match=f"`madacos` {bare}"):
        losses.madacos(cos, labels)
    with pytest.raises(ValueError, match=f"`sphereface2` {bare}"):
        losses.sphereface2(cos, labels, bias=0.0)
    with pytest.raises(ValueError, match="`arcface` needs one right class, no `label_"):
        losses.arcface(cos, labels, label_smoothing=0.1)
    with pytest.raises(ValueError, match="0 <= label < 4"):
        losses.arcface(cos, jax.device_put(np.full(6, 4, np.int32)))


def test_forward_mode_is_refused(cos):
    labels = np.zeros(6, np.int32)

    @jax.jit
    def pushed(cos, labels):
        return jax.jvp(lambda cos: losses.normface(cos, labels), (cos,), (cos,))

    with pytest.raises(TypeError, match="forward-mode"):
        pushed(cos, labels)


def test_shapes_that_do_not_fit_are_named(draw):
    with pytest.raises(ValueError, match=r"kernel.*a multiple of 6.*\(5, 4\)"):
        ops.ChunkedCosines(
            features=jax.device_put(draw((6, 5))),
            kernel=jax.device_put(draw((5, 4))),
            num_classes=2,
            centres=2,
            shards=3,
        )


def test_a_label_that_is_no_class_gives_nan_and_a_negative_one_counts(cos):
    find = jax.jit(lambda cos, labels: losses.normface(cos, labels))
    bad, last, good = (find(cos, np.full(6, label, np.int32)) for label in (4, -1, 3))
    assert np.isnan(bad).all()
    np.testing.assert_allclose(last, good, rtol=1e-6)
