import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from hypersphere import models, nn, ops
from hypersphere.training._config import OptimConfig
from hypersphere.training._penalty import penalty, spherical_paths


def small(**arguments):
    arguments = {"depth": 3, "width": 1 / 64, "image_size": 8} | arguments
    return models.SphereNet(num_classes=3, rngs=nnx.Rngs(0), **arguments)


def flat_params(model):
    return {
        ".".join(map(str, path)): np.asarray(leaf[...], np.float64)
        for path, leaf in nnx.to_flat_state(nnx.state(model, nnx.Param))
    }


def overlap(kernel):
    w = kernel.reshape(-1, kernel.shape[-1])
    return np.sum((w.T @ w - np.eye(w.shape[1])) ** 2)


def test_the_penalty_is_orthogonality_on_spheres_and_l2_on_the_rest():
    model = small(similarity=nn.LearnableSigmoid)
    orthogonality, l2 = 0.0, 0.0
    for path, value in flat_params(model).items():
        if path.endswith("conv.kernel"):
            orthogonality += overlap(value)
        elif not path.endswith("raw"):
            l2 += np.sum(value**2)
    assert orthogonality > 0 and l2 > 0
    config = OptimConfig(orthogonality=0.5, l2=0.25)
    np.testing.assert_allclose(
        penalty(model, config), 0.5 * orthogonality + 0.25 * l2, rtol=1e-5
    )


def test_the_plain_twin_has_l2_in_place_of_orthogonality():
    model = small(similarity=None)
    everything = sum(np.sum(value**2) for value in flat_params(model).values())
    config = OptimConfig(orthogonality=1.0, l2=0.25)
    np.testing.assert_allclose(penalty(model, config), 0.25 * everything, rtol=1e-5)


def test_the_kernel_inside_a_sphere_norm_counts_once_and_as_a_sphere():
    model = small(sphere_norm=True, norm=None)
    params = flat_params(model)
    kernels = {path for path in params if path.endswith("layer.kernel")}
    assert len(kernels) == 4 and spherical_paths(model) == kernels
    truth = sum(overlap(params[path]) for path in kernels)
    ours = penalty(model, OptimConfig(orthogonality=1.0))
    np.testing.assert_allclose(ours, truth, rtol=1e-5)


def test_without_weights_there_is_no_penalty():
    assert penalty(small(), OptimConfig(orthogonality=0.0)) == 0


class Layers(nnx.Module):
    def __init__(self, rngs):
        conv = nnx.Conv(2, 2, (2, 2), use_bias=False, rngs=rngs)
        shape = (2, 2, (2, 2))
        linear = ops.magnitudes.Linear()
        self.yes = nnx.List(
            [
                nn.SphereConv(*shape, rngs=rngs),
                nn.SphereLinear(2, 2, rngs=rngs),
                nn.SphereConvTranspose(*shape, rngs=rngs),
                nn.DecoupledConv(*shape, magnitude=linear, rngs=rngs),
            ]
        )
        self.wrapped = nn.SphereNorm(conv)
        self.no = nnx.List(
            [
                nnx.Conv(*shape, rngs=rngs),
                nnx.Linear(2, 2, rngs=rngs),
                nn.AngularHead(2, 2, rngs=rngs),
                nn.SphereConvTranspose(*shape, transpose_kernel=True, rngs=rngs),
                nn.DecoupledConv(*shape, magnitude=linear, weighted=True, rngs=rngs),
            ]
        )


def test_spherical_are_the_kernels_of_layers_that_ignore_their_length():
    truth = {f"yes.{i}.kernel" for i in range(4)} | {"wrapped.layer.kernel"}
    assert spherical_paths(Layers(nnx.Rngs(0))) == truth
    assert spherical_paths(nnx.eval_shape(lambda: Layers(nnx.Rngs(0)))) == truth


def test_the_length_of_spherical_filters_does_not_change_what_layers_answer(draw):
    model = Layers(nnx.Rngs(0))
    images, lengths = draw((1, 4, 4, 2)), np.array([2, 5], np.float32)
    for layer in [*model.yes, model.wrapped]:
        inner = layer.layer if layer is model.wrapped else layer
        inner.kernel[...] = inner.kernel[...] + 1  # well above the eps of lengths
        inputs = images[0, 0] if isinstance(layer, nn.SphereLinear) else images
        before = layer(inputs)
        inner.kernel[...] = jnp.asarray(np.asarray(inner.kernel[...]) * lengths)
        np.testing.assert_allclose(layer(inputs), before, rtol=1e-4, atol=1e-4)


def test_the_penalty_is_differentiable_where_filters_are_zero():
    model = nn.SphereLinear(3, 2, rngs=nnx.Rngs(0))
    model.kernel[...] = jnp.zeros((3, 2))
    gradient = nnx.grad(penalty)(model, OptimConfig(orthogonality=1.0))
    assert all(jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
