"""Losses on class centres: published values and gradients, and explicit loops."""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere import losses, ops

GOLDEN = np.load(pathlib.Path(__file__).parents[1] / "golden" / "centres.npz")
X, W, Y = (GOLDEN[f"common/{name}"] for name in ("x", "w", "y"))


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


def cosines(x, w):
    return unit(x) @ jnp.swapaxes(unit(w), -1, -2)


def golden(group):
    start = f"{group}/"
    return {k[len(start) :]: GOLDEN[k] for k in GOLDEN.files if k.startswith(start)}


def fixed(loss, **arguments):
    """A loss of cosines alone; each argument is a number, or a name in the group."""

    def call(x, w, group):
        given = {
            name: float(group[value]) if isinstance(value, str) and value in group
            else value
            for name, value in arguments.items()
        }  # fmt: skip
        return loss(cosines(x, w), jnp.asarray(Y), **given)

    return call


def magnified(loss, state=None, **arguments):
    """A loss that takes the features' lengths, and may have a state."""

    def call(x, w, group):
        norms = jnp.linalg.norm(x, axis=-1)
        states = () if state is None else (state,)
        found = loss(
            cosines(x, w), jnp.asarray(Y), *states, feature_norm=norms, **arguments
        )
        return found[0] if states else found

    return call


def adaface(momentum):
    def call(x, w, group):
        state = losses.AdaFaceState()
        for number in range(int(group.get("steps", 1))):
            del number
            loss, state = losses.adaface(
                cosines(x, w),
                jnp.asarray(Y),
                state,
                feature_norm=jnp.linalg.norm(x, axis=-1),
                momentum=momentum,
            )
        return loss

    return call


def curricularface(t):
    state = losses.CurricularFaceState(t)

    def call(x, w, group):
        return losses.curricularface(
            cosines(x, w), jnp.asarray(Y), state, past_pi="pml"
        )[0]

    return call


def adacos(steps):
    def call(x, w, group):
        state = losses.AdaCosState(float(GOLDEN["adacos/s_init"]))
        for _ in range(steps):
            loss, state = losses.adacos(cosines(x, w), jnp.asarray(Y), state)
        return loss

    return call


def intertopk(x, w, group):
    cos = losses.nearest_subcentre(jnp.einsum("bd,ckd->bck", unit(x), unit(w)))
    cos = losses.raise_hardest(
        cos, jnp.asarray(Y), margin=float(group["mp"]), count=int(group["k_top"])
    )
    return losses.arcface(
        cos, jnp.asarray(Y), margin=float(group["margin"]), scale=float(group["scale"])
    )


def filtered(x, w, group):
    cos = losses.without_similar(
        cosines(x, w), jnp.asarray(Y), above=float(group["filter"])
    )
    return losses.arcface(
        cos,
        jnp.asarray(Y),
        margin=float(group["m2"]),
        scale=float(group["scale"]),
        past_pi="plain",
        detach_margin=True,
    )


def sphereface2(margin_type):
    def call(x, w, group):
        return losses.sphereface2(
            cosines(x, w),
            jnp.asarray(Y),
            bias=jnp.asarray(group["bias"])[0],
            margin_type=margin_type,
            margin=float(group["margin"]),
            scale=float(group["r"]),
            sharpness=float(group["t"]),
            positive_share=float(group["alpha"]),
            weight=float(group["lw"]),
            detach_margin=True,
        )

    return call


plain = dict(margin="margin", scale="scale")
LOSSES = {
    "coco": fixed(losses.normface, scale="scale"),
    "cosface": fixed(losses.cosface, **plain),
    "cosface_opensphere_s30": fixed(losses.cosface, **plain),
    "arcface_s16": fixed(losses.arcface, past_pi="pml", **plain),
    "arcface_clipped_true_s16": fixed(losses.arcface, past_pi="clip", **plain),
    "arcface_opensphere_s16": fixed(
        losses.arcface, past_pi="clip", detach_margin=True, **plain
    ),
    "combined_true": fixed(
        losses.combined_margin,
        times="m1",
        angular="m2",
        cosine="m3",
        scale="scale",
        past_pi="clip",
    ),
    "sphereface_true_m1p5": fixed(losses.sphereface, **plain),
    "sphereface_opensphere": fixed(losses.sphereface, detach_margin=True, **plain),
    "sphereface_r_h_v0": fixed(
        losses.sphereface_r, version="v0", weight="lw", detach_margin=True, **plain
    ),
    "sphereface_r_h_v1": fixed(
        losses.sphereface_r, version="v1", weight="lw", detach_margin=True, **plain
    ),
    "insightface_arcface_filter": filtered,
    "intertopk_subcenter": intertopk,
    "sphereface2_C": sphereface2("C"),
    "sphereface2_A": sphereface2("A"),
    "adaface_talpha1.0_step0": adaface(0.0),
    "adaface_talpha0.01_step0": adaface(0.99),
    "curricularface_step0": curricularface(0.0),
    "curricularface_t0p3": curricularface(0.3),
    "adacos_step0": adacos(1),
    "adacos_step1": adacos(2),
    "madacos_alpha0.02": fixed(losses.madacos, share=0.02, classes=10_000_000),
    "madacos_alpha0.1": fixed(losses.madacos, share=0.1, classes=10_000_000),
}


@pytest.fixture(scope="module")
def published():
    """Each loss with its gradients, in float64, all in one program."""

    @jax.jit
    def every(inputs):
        def mean(x, w, name):
            each = LOSSES[name](x, w, golden(name))
            return jnp.mean(each), each

        gradients = jax.grad(mean, argnums=(0, 1), has_aux=True)
        return {name: gradients(*given, name) for name, given in inputs.items()}

    groups = {name: golden(name) for name in LOSSES}
    inputs = {n: (group.get("x", X), group.get("w", W)) for n, group in groups.items()}
    with jax.enable_x64(True):
        return jax.tree.map(np.asarray, every(inputs))


@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_the_published_ones(published, name):
    group, ((dx, dw), each) = golden(name), published[name]
    near = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-9)
    near(each, group["loss"])
    near(dx, group["dx"])
    if "dw" in group:
        near(dw, group["dw"])


COS = np.tanh(np.random.default_rng(20170901).standard_normal((6, 5))).astype(
    np.float32
)
LABELS = np.array([0, 4, 1, 2, 3, 0])
GRID = np.cos(np.linspace(0, np.pi, 2_001)).astype(np.float32)

TARGETS = {
    "arcface": lambda c: ops.additive_margin(c, angular=0.5),
    "arcface, clipped": lambda c: ops.additive_margin(c, angular=0.5, past_pi="clip"),
    "cosface": lambda c: ops.additive_margin(c, cosine=0.35),
    "combined": lambda c: ops.additive_margin(c, times=1.2, angular=0.1, cosine=0.2),
    "sphereface": lambda c: ops.Cosine().at_angle(1.7 * ops.angle(c)),
}


def test_the_right_answer_never_rises_with_the_angle_and_never_leaps():
    answers = jax.jit(lambda c: {name: f(c) for name, f in TARGETS.items()})(GRID)
    for name, answer in answers.items():
        falls = np.diff(np.asarray(answer, np.float64))
        assert falls.max() < 1e-6, name
        assert falls.min() > -0.01, name  # of an angle of 0.0016 radians


def loop(cos, labels, scale, answer):
    """The loss by one example and class after the other, in float64."""
    losses_ = []
    for row, label in zip(np.asarray(cos, np.float64), labels, strict=True):
        logits = [scale * (answer(c) if j == label else c) for j, c in enumerate(row)]
        losses_.append(np.log(sum(np.exp(logits))) - logits[label])
    return np.array(losses_)


def arc(c, margin=0.5):
    theta = np.arccos(c) + margin
    return np.cos(theta) if theta <= np.pi else c - 1 + np.cos(margin)


@jax.jit
def several(cos, labels, shares, margin, per_class):
    """What the tests below compare, compiled together."""
    a = functools.partial(losses.arcface, scale=8.0)
    sub = cos[..., None] * jnp.ones((1, 1, 1))
    return {
        "arcface": a(cos, labels),
        "traced": a(cos, labels, margin=margin),
        "per class": a(cos, labels, margin=per_class),
        "per example": a(cos, labels, margin=margin + jnp.zeros((6, 1))),
        "detached": a(cos, labels, detach_margin=True),
        "shares": a(cos, shares),
        "one hot": a(cos, jax.nn.one_hot(labels, 5)),
        "smoothed": a(cos, labels, label_smoothing=0.2),
        "smoothed one hot": a(cos, jax.nn.one_hot(labels, 5), label_smoothing=0.2),
        "no margin": a(cos, labels, margin=0.0),
        "normface": losses.normface(cos, labels, scale=8.0),
        "scales": losses.normface(cos, labels, scale=8.0 * per_class + 1),
        "scales, one hot": losses.normface(
            cos, jax.nn.one_hot(labels, 5), scale=8.0 * per_class + 1
        ),
        "one subcentre": a(losses.nearest_subcentre(sub), labels),
        "by norms": losses.sphereface(
            cos, labels, margin=2.0, scale=jnp.full((6, 1), 8.0)
        ),
        "a_softmax": losses.a_softmax(
            cos, labels, margin=4 * margin, feature_norm=jnp.full(6, 8.0)
        ),
    }


@pytest.fixture(scope="module")
def found():
    shares = np.random.default_rng(3).dirichlet(np.ones(5), 6).astype(np.float32)
    margins = np.linspace(0, 1, 5, dtype=np.float32)
    answers = several(COS, LABELS, shares, np.float32(0.5), margins)
    return {name: np.asarray(x) for name, x in answers.items()} | {
        "margins": margins,
        "given": shares,
    }


def near(ours, truth):
    np.testing.assert_allclose(ours, truth, rtol=2e-5, atol=2e-6)


def test_arcface_equals_the_loop_whatever_its_margin_is(found):
    near(found["arcface"], loop(COS, LABELS, 8.0, arc))
    for name in ("traced", "per example", "detached", "one subcentre", "one hot"):
        near(found[name], found["arcface"])
    each = [
        loop(COS[i : i + 1], LABELS[i : i + 1], 8.0, functools.partial(arc, margin=m))[
            0
        ]
        for i, m in enumerate(found["margins"][LABELS])
    ]
    near(found["per class"], each)


def test_shares_are_the_sum_of_the_losses_with_each_label(found):
    each = np.stack([loop(COS, np.full(6, j), 8.0, arc) for j in range(5)], axis=-1)
    near(found["shares"], np.sum(found["given"] * each, -1))
    smooth = 0.8 * np.eye(5)[LABELS] + 0.2 / 5
    near(found["smoothed"], np.sum(smooth * each, -1))
    near(found["smoothed one hot"], found["smoothed"])


def test_without_a_margin_all_are_normface_and_with_norms_sphereface_is_a_softmax(
    found,
):
    near(found["no margin"], found["normface"])
    near(found["scales"], found["scales, one hot"])
    near(found["by norms"], found["a_softmax"])


def test_a_margin_of_nothing_has_the_slope_of_the_cosine_also_at_one():
    labels = jnp.array([0, 0, 2])

    @jax.jit
    def gradients(cos):
        total = lambda loss, **given: jax.grad(  # noqa: E731
            lambda c: jnp.sum(loss(c, labels, scale=8.0, **given))
        )(cos)
        return (
            total(losses.normface),
            total(losses.arcface, margin=0.0),
            total(losses.sphereface, margin=1.0),
            jax.grad(lambda m: total(losses.sphereface, margin=m).sum())(2.0),
        )

    cos = jnp.asarray([[1.0, -1.0, 0.0], [-0.9, 1.0, 1.0], [0.0, 0.0, 0.0]])
    plain, added, multiplied, second = gradients(cos)
    near(added, plain)
    near(multiplied, plain)
    assert np.isfinite(second)


def test_magface_equals_the_loop():
    norms = np.array([5.0, 10.0, 40.0, 90.0, 110.0, 200.0], np.float32)
    loss = functools.partial(losses.magface, scale=8.0, regularizer=2.0)
    ours = jax.jit(loss)(COS, LABELS, feature_norm=norms)
    a = np.clip(norms.astype(np.float64), 10, 110)
    margins = 0.45 + (0.8 - 0.45) / 100 * (a - 10)
    truth = [
        loop(COS[i : i + 1], LABELS[i : i + 1], 8.0, functools.partial(arc, margin=m))[
            0
        ]
        for i, m in enumerate(margins)
    ]
    near(ours, np.array(truth) + 2.0 * (a / 110**2 + 1 / a))


ENDS = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
EVERY = {
    "arcface": losses.arcface,
    "combined_margin": functools.partial(losses.combined_margin, times=1.5),
    "sphereface": losses.sphereface,
    "sphereface_r": functools.partial(losses.sphereface_r, version="v2"),
    "sphereface2": functools.partial(losses.sphereface2, bias=0.0, margin_type="A"),
    "curricularface": lambda cos, labels, **scale: losses.curricularface(
        cos, labels, losses.CurricularFaceState(), **scale
    )[0],
    "magface": lambda cos, labels, **scale: losses.magface(
        cos, labels, feature_norm=jnp.zeros(3, cos.dtype), **scale
    ),
    "adaface": lambda cos, labels, **scale: losses.adaface(
        cos,
        labels,
        losses.AdaFaceState(),
        feature_norm=jnp.zeros(3, cos.dtype),
        **scale,
    )[0],
}


@pytest.mark.parametrize(
    "dtype",
    [
        jnp.float16,
        pytest.param(jnp.bfloat16, marks=pytest.mark.slow),
        pytest.param(jnp.float32, marks=pytest.mark.slow),
    ],
)
def test_gradients_are_finite_at_both_ends_with_a_large_scale(dtype):
    labels = jnp.array([0, 0, 2])

    @jax.jit
    def gradients(cos):
        total = lambda cos, loss: jnp.sum(loss(cos, labels, scale=300.0))  # noqa: E731
        return {
            name: jax.value_and_grad(total)(cos, loss) for name, loss in EVERY.items()
        }

    for name, (value, gradient) in gradients(jnp.asarray(ENDS, dtype)).items():
        assert np.isfinite(np.asarray(value, np.float32)), name
        assert np.all(np.isfinite(np.asarray(gradient, np.float32))), name


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.arcface(COS, LABELS, margin=28.6), "Is it in degrees"),
        (lambda: losses.arcface(COS, LABELS, scale=0.0), "finite `scale > 0`"),
        (lambda: losses.arcface(COS, LABELS + 1), "`0 <= label < 5`.*got 5"),
        (lambda: losses.arcface(COS, LABELS[:3]), r"labels\.shape=\(3,\)"),
        (lambda: ops.additive_margin(COS, past_pi="round"), "got 'round'"),
        (
            lambda: losses.arcface(COS, LABELS, margin=np.ones(4)),
            r"\(classes,\) = \(5,",
        ),
        (lambda: losses.cosface(COS, LABELS, margin=-0.1), "`margin >= 0`"),
        (lambda: losses.sphereface(COS, LABELS, margin=0.5), "`margin >= 1`"),
        (lambda: losses.normface(COS, LABELS, label_smoothing=1.0), "label_smoothing"),
        (lambda: losses.adacos_start(2), "at least 3 classes"),
        (lambda: losses.raise_hardest(COS, LABELS, count=5), "count < classes"),
        (
            lambda: losses.magface(COS, LABELS, feature_norm=np.ones(5)),
            "one `feature_norm` per example",
        ),
        (
            lambda: losses.sphereface_r(COS, np.ones((6, 5)) / 5, version="v2"),
            "needs one right class",
        ),
        (lambda: losses.sphereface2(COS, LABELS, bias=0, margin_type="B"), "got 'B'"),
        (lambda: losses.madacos(COS, np.ones((6, 5))), r"\(batch,\), indices, got"),
        (lambda: losses.sphereface_r(COS, LABELS, scale=np.ones(5)), "one per example"),
    ],
)
def test_what_makes_no_sense_is_told(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_scale_of_adacos_ends_where_wrong_classes_are_the_nearest():
    cos = np.full((4, 5), 0.999, np.float32)
    cos[:, 0] = 0.2

    @jax.jit
    def after(cos):
        state, labels = losses.adacos_start(5), jnp.zeros(4, jnp.int32)
        again = lambda i, state: losses.adacos(cos, labels, state)[1]  # noqa: E731
        state = jax.lax.fori_loop(0, 30, again, jax.tree.map(jnp.float32, state))
        return losses.adacos(cos, labels, state)[0], state.scale

    loss, scale = after(cos)
    assert scale == 1000 and np.isfinite(loss).all()
