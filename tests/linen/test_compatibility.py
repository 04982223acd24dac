"""Structures of Linen models that were written elsewhere, built here and made tiny."""

import logging

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import linen, nn, ops
from tests.linen import twins

X = (2, 3, 8)  # batch, time, features


class Encoder(flax.linen.Module):
    """Attention, a scan over stacked layers, a subclass, a transposed convolution."""

    @flax.linen.compact
    def __call__(self, x):
        x = x + flax.linen.MultiHeadDotProductAttention(2, name="attention")(x)

        def layer(module, x, _):
            return x + module(x), None

        scanned = flax.linen.scan(
            layer, variable_axes={"params": 0}, split_rngs={"params": True}, length=3
        )
        x, _ = scanned(StandardDense(8, name="stack"), x, None)
        x = flax.linen.ConvTranspose(8, (2,), name="up")(x)
        return flax.linen.Dense(5, use_bias=False, name="head")(x)


class StandardDense(flax.linen.Dense):
    """big_vision's way: the parameter is changed when it is asked for."""

    def param(self, name, *args, **kwargs):
        value = super().param(name, *args, **kwargs)
        return (
            value - jnp.mean(value, axis=0, keepdims=True)
            if name == "kernel"
            else value
        )


ALL = ["attention.query", "attention.key", "attention.value", "attention.out"]
ALL += ["stack", "up", "head"]


def test_a_linen_model_is_spherical_with_parameters_of_its_similarities(draw):
    model, x = Encoder(), draw(X)
    options = dict(similarity=linen.LearnableSigmoid, subclasses=True)
    with linen.spherize(**options, head="head", head_scale=4.0) as interceptor:
        variables = twins.drawn(model, x)
        answer = jax.jit(model.apply)(variables, x)
    assert interceptor.paths == ALL and interceptor.plain == {}
    params = variables["params"]
    assert params["attention"]["query"]["similarity"]["raw"].shape == (2, 4)
    assert params["stack"]["similarity"]["raw"].shape == (3, 8)
    assert np.isfinite(answer).all()
    assert 1 < np.abs(answer).max() <= 4


def test_what_stays_plain_in_a_linen_model_is_told(draw, caplog):
    model, x = Encoder(), draw(X)
    with caplog.at_level(logging.INFO, "hypersphere"):
        with linen.spherize(where=["attention", "head"]) as interceptor:
            twins.init_shapes(model, x)
    assert interceptor.paths == [*ALL[:4], "head"]
    assert interceptor.plain == {"stack": "StandardDense", "up": "ConvTranspose"}
    assert "left plain: StandardDense (stack), ConvTranspose (up)" in caplog.text


class Tied(flax.linen.Module):
    def setup(self):
        self.embed = flax.linen.Embed(5, 3)

    def __call__(self, x):
        return self.embed.attend(x)


def test_a_layer_of_which_another_method_is_called_is_told_as_well(draw, caplog):
    with caplog.at_level(logging.INFO, "hypersphere"):
        with linen.spherize() as interceptor:
            twins.init_shapes(Tied(), draw((2, 3)))
        with linen.spherize():
            twins.init_shapes(flax.linen.Dense(2), draw((2, 3)))
    assert interceptor.plain == {"embed": "Embed"}
    assert "changed 1 layers: the model; left plain: none" in caplog.text


def test_a_transposed_convolution_of_linen_is_the_spherical_layer(draw):
    x = draw((2, 4, 4, 3))
    options = dict(strides=(2, 2), padding="CIRCULAR", transpose_kernel=True)
    plain = flax.linen.ConvTranspose(5, (3, 3), **options)
    twin = linen.SphereConvTranspose(5, (3, 3), **options, similarity=ops.Linear())

    @jax.jit
    def both(variables, x):
        with linen.spherize(similarity=ops.Linear()):
            return plain.apply(variables, x), twin.apply(variables, x)

    np.testing.assert_array_equal(*both(twins.drawn(plain, x), x))


def test_strictness_tells_of_a_function_that_was_compiled_before(draw):
    model, x = flax.linen.Dense(4), draw((2, 3))
    variables = twins.drawn(model, x)
    apply = jax.jit(model.apply)
    apply(variables, x)
    with pytest.raises(ValueError, match="changed nothing: no layer was called, or"):
        with linen.spherize(strict=True):
            apply(variables, x)
    with linen.spherize(strict=True):
        jax.eval_shape(lambda *given: model.apply(*given), variables, x)


def test_strictness_tells_of_a_pattern_that_matches_nothing(draw):
    model, x = Encoder(), draw(X)
    with pytest.raises(ValueError, match=r"nothing that 'attn' matches.*head"):
        with linen.spherize(where=["attn", "head"], strict=True):
            twins.init_shapes(model, x)
    with pytest.raises(ValueError, match="write `with linen.spherize"):
        with flax.linen.intercept_methods(linen.spherize(strict=True)):
            twins.init_shapes(model, x)


def test_variables_without_those_of_a_similarity_say_what_to_do(draw):
    model, x = flax.linen.Dense(4), draw((2, 3))
    variables = twins.drawn(model, x)
    with pytest.raises(flax.errors.ScopeParamNotFoundError) as raised:
        with linen.spherize(similarity=linen.LearnableSigmoid):
            jax.eval_shape(model.apply, variables, x)
    assert "call `init` under the interceptor" in raised.value.__notes__[0]


def test_a_linen_subclass_that_multiplies_by_itself_is_refused(draw):
    class Own(flax.linen.Dense):
        @flax.linen.compact
        def __call__(self, x):
            return x @ self.param("kernel", self.kernel_init, (3, 4))

    with pytest.raises(ValueError, match="a `Own`, does not use its field `dot_gener"):
        with linen.spherize(subclasses=True):
            twins.init_shapes(Own(4), draw((2, 3)))


def test_a_class_of_similarities_means_the_same_in_both(draw):
    x = draw((2, 3))
    by_class, by_object = (
        linen.spherize(similarity=s) for s in (ops.Sigmoid, ops.Sigmoid())
    )
    model = flax.linen.Dense(4)
    variables = twins.drawn(model, x)

    def respond(interceptor):
        with interceptor:
            return jax.jit(lambda *given: model.apply(*given))(variables, x)

    np.testing.assert_array_equal(respond(by_class), respond(by_object))
    assert (
        nn.SphereLinear(3, 4, similarity=ops.Sigmoid, rngs=nnx.Rngs(0)).similarity
        == ops.Sigmoid()
    )
