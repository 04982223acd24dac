import functools
import math
import pathlib
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from hypersphere import losses, ops
from tests import helpers, reference

COS = np.tanh(reference.normal(6, 5))  # some close to an end, some not
LABELS = np.array([0, 4, 1, 2, 3, 0])
LENGTHS = np.array([0.1, 0.5, 1.0, 2.0, 4.0, 8.0], np.float32)

SIMILARITIES = {
    "cosine": (ops.Cosine(), reference.cosine, reference.psi_cosine),
    "linear": (ops.Linear(), reference.linear, reference.psi_linear),
    "sigmoid": (ops.Sigmoid(), reference.sigmoid, reference.psi_sigmoid),
}
every_similarity = pytest.mark.parametrize(
    ("similarity", "g", "psi"), SIMILARITIES.values(), ids=SIMILARITIES
)
MARGINS = [1.0, 1.5, 2.0, 4.0, 8.0]


@functools.partial(jax.jit, static_argnames=("loss", "similarity", "margin"))
def compiled(loss, cos, labels, feature_norm, margin_weight=None, **options):
    if margin_weight is not None:
        options["margin_weight"] = margin_weight
    return loss(cos, labels, feature_norm=feature_norm, **options)


@every_similarity
def test_w_softmax_equals_the_loop(similarity, g, psi):
    loss = compiled(losses.w_softmax, COS, LABELS, LENGTHS, similarity=similarity)
    helpers.assert_close(loss, reference.margin_softmax(COS, LABELS, LENGTHS, g))


@functools.partial(jax.jit, static_argnames="similarity")
def ga_softmax(cos, labels, feature_norm, margin_weight, similarity):
    """The losses by their margin."""
    options = dict(
        feature_norm=feature_norm, margin_weight=margin_weight, similarity=similarity
    )
    return {
        margin: losses.ga_softmax(cos, labels, margin=margin, **options)
        for margin in MARGINS
    }


@every_similarity
def test_ga_softmax_equals_the_loop(similarity, g, psi):
    for weight in (0.0, 0.3, 1.0):
        found = ga_softmax(COS, LABELS, LENGTHS, weight, similarity=similarity)
        for margin, loss in found.items():
            truth = reference.ga_softmax(COS, LABELS, LENGTHS, g, psi, margin, weight)
            helpers.assert_close(loss, truth)


@every_similarity
def test_without_a_margin_ga_softmax_is_w_softmax(similarity, g, psi):
    @jax.jit
    def without_a_margin(cos, labels, feature_norm):
        options = dict(feature_norm=feature_norm, similarity=similarity)
        return [
            losses.ga_softmax(cos, labels, **options, **more)
            for more in ({"margin": 1.0}, {"margin_weight": 0.0})
        ]

    w = compiled(losses.w_softmax, COS, LABELS, LENGTHS, similarity=similarity)
    for ga in without_a_margin(COS, LABELS, LENGTHS):
        helpers.assert_close(ga, np.float64(w))


def test_defaults_are_those_of_the_papers():
    truth = reference.margin_softmax(COS, LABELS, LENGTHS, reference.cosine)
    helpers.assert_close(compiled(losses.w_softmax, COS, LABELS, LENGTHS), truth)
    for loss, name in [(losses.ga_softmax, "linear"), (losses.a_softmax, "cosine")]:
        _, g, psi = SIMILARITIES[name]
        truth = reference.ga_softmax(COS, LABELS, LENGTHS, g, psi, 4.0)
        helpers.assert_close(compiled(loss, COS, LABELS, LENGTHS), truth)


@pytest.mark.parametrize(("margin", "weight"), [(1.5, 1.0), (4.0, 0.3)])
def test_a_softmax_is_ga_softmax_with_the_cosine(margin, weight):
    options = dict(margin=margin, margin_weight=weight)
    a = compiled(losses.a_softmax, COS, LABELS, LENGTHS, **options)
    ga = compiled(
        losses.ga_softmax, COS, LABELS, LENGTHS, similarity=ops.Cosine(), **options
    )
    np.testing.assert_array_equal(a, ga)


@pytest.mark.parametrize("margin", [2, 3, 4])
def test_a_softmax_is_the_polynomials_of_spherefaces_code(margin):
    truth = reference.margin_softmax(
        COS,
        LABELS,
        LENGTHS,
        reference.cosine,
        target=lambda c: reference.sphereface_psi(c, margin),
    )
    loss = compiled(losses.a_softmax, COS, LABELS, LENGTHS, margin=float(margin))
    helpers.assert_close(loss, truth)


LOSSES = {
    "w_softmax": losses.w_softmax,
    "ga_softmax": losses.ga_softmax,
    "ga_softmax, cosine": functools.partial(
        losses.ga_softmax, similarity=ops.Cosine(), margin_weight=0.3
    ),
    "ga_softmax, sigmoid": functools.partial(
        losses.ga_softmax, similarity=ops.Sigmoid()
    ),
    "a_softmax": losses.a_softmax,
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


@every_loss
def test_feature_norm_may_be_a_column(loss):
    row = compiled(loss, COS, LABELS, LENGTHS)
    column = compiled(loss, COS, LABELS, LENGTHS[:, None])
    assert row.shape == (6,)
    np.testing.assert_array_equal(row, column)


@every_loss
def test_labels_count_from_either_end_and_give_nan_outside(loss):
    from_the_end = compiled(loss, COS, LABELS - 5, LENGTHS)
    np.testing.assert_array_equal(from_the_end, compiled(loss, COS, LABELS, LENGTHS))
    outside = compiled(loss, COS, np.array([5, 1, -6, 1, 99, 1]), LENGTHS)
    np.testing.assert_array_equal(np.isnan(outside), [True, False] * 3)


@functools.partial(jax.jit, static_argnames="loss")
def gradients(loss, cos, labels, feature_norm):
    def total(cos, feature_norm):
        each = loss(cos, labels, feature_norm=feature_norm)
        return jnp.sum(each.astype(jnp.float32)), each

    return jax.value_and_grad(total, (0, 1), has_aux=True)(cos, feature_norm)


def test_gradients_fit_into_float16_whatever_the_length():
    cos = jnp.array([[1, -1, 0.5], [-1, 1, 0.9995]], jnp.float16)
    lengths = jnp.full(2, 30_000, jnp.float16)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def slopes(cos, lengths):
        return jnp.sum(losses.ga_softmax(cos, labels, feature_norm=lengths))

    labels = jnp.array([1, 1])
    for slope in slopes(cos, lengths):
        assert slope.dtype == jnp.float16 and np.all(np.isfinite(slope))


@pytest.mark.parametrize(
    ("loss", "dtype"),
    helpers.sampled_rows(
        {
            f"{name}, {dtype.__name__}": (loss, dtype)
            for dtype in (jnp.float32, jnp.bfloat16)
            for name, loss in LOSSES.items()
        },
        "a_softmax, float32",
        "ga_softmax, bfloat16",
        "ga_softmax, sigmoid, float32",
    ),
)
def test_gradients_are_finite_at_the_poles_and_for_every_length(loss, dtype):
    cos = COS.copy()
    cos[0], cos[1] = 1.0, -1.0  # the right class and every other
    cos[2, 1], cos[3, 2] = 1.0, -1.0  # the right class alone
    for size in (0.0, 1.0, 1e-20, 1e4, 1e10, 1e18):
        lengths = (LENGTHS * size).astype(dtype)
        (_, each), grads = gradients(loss, cos.astype(dtype), LABELS, lengths)
        chex.assert_tree_all_finite((each, grads))
        assert each.dtype == jnp.float32
        assert grads[0].dtype == grads[1].dtype == dtype
        assert (np.asarray(each) >= 0).all()


@every_loss
def test_half_precision_equals_the_loss_of_the_rounded_cosines(loss):
    cos, lengths = (a.astype(jnp.bfloat16) for a in (COS, LENGTHS))
    (_, each), _ = gradients(loss, cos, LABELS, lengths)
    wide = compiled(loss, np.float32(cos), LABELS, np.float32(lengths))
    helpers.assert_close(each, np.float64(wide), "bfloat16")


def slopes(function, x):
    """Central differences of a float64 function with one number per example."""
    out = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        step = np.zeros(x.shape)
        step[index] = 1e-6
        out[index] = np.sum(function(x + step) - function(x - step)) / 2e-6
    return out


@pytest.mark.slow
@every_similarity
def test_gradients_agree_with_finite_differences_of_the_loop(similarity, g, psi):
    margins = (1.5, 4.0)

    @jax.jit
    def of_every_margin(*arguments):
        ga = functools.partial(losses.ga_softmax, similarity=similarity)
        return [
            gradients(functools.partial(ga, margin=margin), *arguments)[1]
            for margin in margins
        ]

    found = of_every_margin(COS, LABELS, LENGTHS)
    cos, norm = np.float64(COS), np.float64(LENGTHS)
    for margin, (by_cos, by_norm) in zip(margins, found, strict=True):
        truth = functools.partial(
            reference.ga_softmax, labels=LABELS, similarity=g, psi=psi, margin=margin
        )
        of_cos = slopes(functools.partial(truth, feature_norm=norm), cos)
        of_norm = slopes(lambda norm, f=truth: f(cos, feature_norm=norm), norm)
        # The steepest of the similarities turns an error of 2e-7 in the angle to 1e-5.
        np.testing.assert_allclose(by_cos, of_cos, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(by_norm, of_norm, rtol=1e-4, atol=1e-5)


def test_a_larger_weight_of_the_margin_never_lowers_the_loss():
    weights = np.linspace(0, 1, 11, dtype=np.float32)
    each = np.stack(
        [compiled(losses.ga_softmax, COS, LABELS, LENGTHS, w) for w in weights]
    )
    assert (np.diff(each, axis=0) >= -1e-6).all()


SCHEDULES = {
    "the defaults": {},
    "from the full margin": dict(base=0.0, lambda_min=0.0),
    "squared": dict(base=10.0, gamma=0.5, power=2.0, lambda_min=0.01),
    "constant": dict(base=7.0, gamma=0.0),
}


@pytest.mark.parametrize("arguments", SCHEDULES.values(), ids=SCHEDULES)
def test_annealing_is_the_formula_at_every_step(arguments):
    steps = np.unique(np.geomspace(1, 1_000_001, 500).astype(int)) - 1
    full = dict(base=1000.0, gamma=0.12, power=1.0, lambda_min=5.0) | arguments
    falling = full["base"] * (1 + full["gamma"] * steps) ** -full["power"]
    truth = 1 / (1 + np.maximum(full["lambda_min"], falling))
    weight = losses.annealed_margin_weight(**arguments)
    helpers.assert_close(jax.jit(weight)(steps), truth)
    assert float(weight(int(steps[100]))) == pytest.approx(truth[100], rel=1e-5)


def test_annealing_is_a_schedule_of_optax():
    weight = losses.annealed_margin_weight(base=10.0, gamma=0.5)
    scale = optax.scale_by_schedule(weight)
    update = jax.jit(scale.update)
    state = scale.init(jnp.float32(0.0))
    for step in range(3):
        scaled, state = update(jnp.float32(2.0), state)
        assert float(scaled) == pytest.approx(2 / (1 + 10 / (1 + 0.5 * step)))


def test_annealing_blends_inside_one_compiled_step():
    weight = losses.annealed_margin_weight(base=10.0, gamma=0.5)
    chex.clear_trace_counter()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def step(count):
        loss = losses.ga_softmax(
            jnp.asarray(COS),
            jnp.asarray(LABELS),
            feature_norm=jnp.asarray(LENGTHS),
            margin_weight=weight(count),
        )
        return loss, count + 1

    count = jnp.int32(0)
    for _ in range(3):
        truth = reference.ga_softmax(
            COS,
            LABELS,
            LENGTHS,
            reference.linear,
            reference.psi_linear,
            4.0,
            1 / (1 + 10 / (1 + 0.5 * int(count))),
        )
        loss, count = step(count)
        helpers.assert_close(loss, truth)


@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.01, "floor": 1e-4}, {"label_smoothing": 0.3}]
)
def test_softmax_equals_the_loop(options):
    logits = reference.normal(6, 5) * 3
    loss = jax.jit(functools.partial(losses.softmax, **options))(logits, LABELS)
    helpers.assert_close(loss, reference.softmax(logits, LABELS, **options))


def test_softmax_with_the_authors_safeguards_is_finite_for_every_logit():
    loss = functools.partial(losses.softmax, label_smoothing=0.01, floor=1e-4)
    each = lambda z: loss(z, jnp.asarray(LABELS))  # noqa: E731
    respond = jax.jit(jax.value_and_grad(lambda z: jnp.sum(each(z))))
    for size in (0.0, 1.0, 1e4, 1e18):
        chex.assert_tree_all_finite(respond(reference.normal(6, 5) * np.float32(size)))
    helpers.check_gradients(each, reference.normal(6, 5))


def test_softmax_counts_a_label_outside_as_no_class():
    outside = np.array([5, -1, 99, -6, 5, 5])
    loss = jax.jit(losses.softmax)(reference.normal(6, 5), outside)
    np.testing.assert_array_equal(loss, np.zeros(6))


def refused(match):
    return pytest.raises(ValueError, match=match)


def test_bad_arguments_are_named(as_a_user):
    cos, labels, norm = COS, LABELS, LENGTHS
    for name in ("w_softmax", "ga_softmax"):
        with refused(
            rf"`{name}` needs one `feature_norm` per example, of shape \(6,\) or "
            r"\(6, 1\), got `feature_norm\.shape=\(5,\)` and `cos\.shape=\(6, 5\)`"
        ):
            getattr(losses, name)(cos, labels, feature_norm=norm[:5])
    with refused(r"got `feature_norm\.shape=\(1, 6\)`"):
        losses.a_softmax(cos, labels, feature_norm=norm[None])
    for margin in (0.5, -4.0, math.nan, math.inf, np.float32(0.5)):
        for loss in (losses.ga_softmax, losses.a_softmax):
            with refused(
                rf"needs a finite `margin >= 1`.*got `margin={re.escape(repr(margin))}`"
            ):
                loss(cos, labels, feature_norm=norm, margin=margin)
    with refused(r"needs one `margin` for all, got `margin.shape=\(2,\)`"):
        losses.ga_softmax(cos, labels, feature_norm=norm, margin=np.ones(2))
    for weight in (-0.1, 1.5, 5, math.nan):
        with refused(
            rf"`0 <= margin_weight <= 1`, got `margin_weight={weight}`.*lambda"
        ):
            losses.ga_softmax(cos, labels, feature_norm=norm, margin_weight=weight)
    for name in ("base", "gamma", "power", "lambda_min"):
        for value in (-1.0, math.nan, math.inf):
            with refused(
                rf"`annealed_margin_weight` needs a finite `{name} >= 0`, got "
                rf"`{name}={value}`"
            ):
                losses.annealed_margin_weight(**{name: value})
    for options in ({"label_smoothing": 1.0}, {"label_smoothing": -0.1}):
        with refused(rf"`softmax` needs .*{options['label_smoothing']}` and `floor=0"):
            losses.softmax(cos, labels, **options)
    for floor in (-1e-4, math.inf, math.nan):
        with refused(rf"finite `floor >= 0`, got .*`floor={floor}`"):
            losses.softmax(cos, labels, floor=floor)


def test_softmax_reproduces_the_authors_loss_and_its_gradient():
    golden = np.load(
        pathlib.Path(__file__).parents[1]
        / "golden"
        / "official_sphereresnet_conv_and_loss.npz"
    )
    logits, labels = golden["loss_logits"], golden["loss_labels"]

    def mean_loss(logits):
        return jnp.mean(
            losses.softmax(
                logits, jnp.asarray(labels, jnp.int32), label_smoothing=0.01, floor=1e-4
            )
        )

    value, gradient = jax.jit(jax.value_and_grad(mean_loss))(logits)
    np.testing.assert_allclose(value, golden["loss_value"], rtol=0, atol=2e-6)
    truth = golden["loss_grad"]
    atol = 1e-4 * np.abs(truth).max()
    np.testing.assert_allclose(gradient, truth, rtol=0, atol=atol)


def test_a_margin_needs_a_similarity_that_goes_on_past_pi(as_a_user):
    with pytest.raises(TypeError, match=r"method `at_angle`.*`similarity=<"):
        losses.ga_softmax(COS, LABELS, feature_norm=LENGTHS, similarity=jnp.tanh)


def test_a_scale_takes_the_place_of_lengths_and_lengths_need_not_be_learned():
    @jax.jit
    def found(cos, norm):
        def total(norm, **options):
            return losses.ga_softmax(
                cos, jnp.asarray(LABELS), feature_norm=norm, **options
            ).sum()

        scaled = losses.ga_softmax(cos, jnp.asarray(LABELS), scale=4.0)
        same = losses.ga_softmax(
            cos, jnp.asarray(LABELS), feature_norm=jnp.full(6, 4.0)
        )
        plain = losses.w_softmax(cos, jnp.asarray(LABELS), scale=4.0)
        plain_same = losses.w_softmax(
            cos, jnp.asarray(LABELS), feature_norm=jnp.full(6, 4.0)
        )
        stopped = jax.grad(lambda n: total(n, stop_norm_gradient=True))(norm)
        return (scaled, same), (plain, plain_same), stopped, jax.grad(total)(norm)

    *pairs, stopped, slope = found(COS, LENGTHS)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=1e-6)
    assert not stopped.any() and slope.all()


@pytest.mark.parametrize(
    "options", [{}, {"feature_norm": jnp.asarray(LENGTHS), "scale": 4.0}]
)
def test_either_lengths_or_a_scale_are_needed(options):
    with pytest.raises(ValueError, match="either the features' lengths"):
        losses.w_softmax(jnp.asarray(COS), jnp.asarray(LABELS), **options)
