import jax
import numpy as np
import pytest
from flax import nnx

from hypersphere import models, nn, ops, recipes
from hypersphere.training.compute._penalty import check_penalty, penalty
from tests.helpers import filled


def small(**arguments):
    arguments = {"depth": 3, "width": 1 / 64, "image_size": 8} | arguments
    return filled(
        lambda: models.SphereNet(num_classes=3, rngs=nnx.Rngs(0), **arguments)
    )


def compiled(model, config, transform=lambda function: function):
    graphdef, state = nnx.split(model)
    value = transform(lambda state: penalty(nnx.merge(graphdef, state), config))
    return jax.jit(value)(state)


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
    config = recipes.Adam(orthogonality=0.5, l2=0.25)
    np.testing.assert_allclose(
        compiled(model, config), 0.5 * orthogonality + 0.25 * l2, rtol=1e-5
    )


def test_the_plain_twin_has_l2_in_place_of_orthogonality():
    model = small(similarity=None)
    everything = sum(np.sum(value**2) for value in flat_params(model).values())
    config = recipes.Adam(orthogonality=1.0, l2=0.25)
    np.testing.assert_allclose(compiled(model, config), 0.25 * everything, rtol=1e-5)


def test_the_kernel_inside_a_sphere_norm_counts_once_and_as_a_sphere():
    model = small(sphere_norm=True, norm=None)
    params = flat_params(model)
    kernels = {path for path in params if path.endswith("layer.kernel")}
    assert len(kernels) == 4 and set(nn.directions(model)) == kernels
    truth = sum(overlap(params[path]) for path in kernels)
    ours = compiled(model, recipes.Adam(orthogonality=1.0))
    np.testing.assert_allclose(ours, truth, rtol=1e-5)


def test_without_weights_there_is_no_penalty():
    assert penalty(small(), recipes.Adam(orthogonality=0.0)) == 0


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


def make_layers():
    return Layers(nnx.Rngs(0))


def test_spherical_are_the_kernels_of_layers_that_ignore_their_length():
    truth = {f"yes.{i}.kernel" for i in range(4)} | {"wrapped.layer.kernel"}
    abstract = nnx.eval_shape(make_layers)
    assert set(nn.directions(abstract)) == truth
    assert set(nn.directions(filled(make_layers))) == truth


def test_a_layer_of_ones_own_says_which_parameters_are_directions(draw):
    class Mine(nnx.Module):
        directions = ("filters",)

        def __init__(self):
            self.filters = nnx.Param(draw((5, 3)))
            self.slope = nnx.Param(draw((3,)))

    model = nnx.Sequential(Mine(), nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
    assert list(nn.directions(model)) == ["layers.0.filters"]
    assert list(nn.spherical_layers(model)) == ["layers.0"]
    filters = np.asarray(model.layers[0].filters[...], np.float64)
    ours = penalty(model, recipes.Adam(orthogonality=0.5))
    np.testing.assert_allclose(ours, 0.5 * overlap(filters), rtol=1e-5)
    Mine.directions = ("kernel",)
    with pytest.raises(AttributeError, match="kernel"):
        nn.directions(model)


def test_the_length_of_spherical_filters_does_not_change_what_layers_answer(draw):
    model = filled(make_layers)
    layers = [*model.yes, model.wrapped]
    kernels = [getattr(layer, "layer", layer).kernel for layer in layers]
    graphdef, state = nnx.split(model)

    @jax.jit
    def answers(state, images):
        model = nnx.merge(graphdef, state)
        return [
            layer(images[0, 0] if isinstance(layer, nn.SphereLinear) else images)
            for layer in (*model.yes, model.wrapped)
        ]

    def with_kernels(change):
        for kernel in kernels:
            kernel[...] = jax.device_put(change(np.asarray(kernel[...])))
        return answers(nnx.state(model), images)

    images, lengths = draw((1, 4, 4, 2)), np.array([2, 5], np.float32)
    before = with_kernels(lambda kernel: kernel + 1)  # well above the eps of lengths
    after = with_kernels(lambda kernel: kernel * lengths)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-4)


def test_the_penalty_is_differentiable_where_filters_are_zero():
    model = filled(lambda: nn.SphereLinear(3, 2, rngs=nnx.Rngs(0)))
    model.kernel[...] = jax.device_put(np.zeros((3, 2), np.float32))
    gradient = compiled(model, recipes.Adam(orthogonality=1.0), jax.grad)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_further_penalties_are_on_what_their_patterns_fit():
    model = small(similarity=None)
    kernels = {k: v for k, v in flat_params(model).items() if k.endswith("conv.kernel")}
    config = recipes.Adam(
        orthogonality=0.0,
        penalties=(
            "*.conv.kernel: 0.5 orthogonality",
            "head.kernel: 0.25 l2",
            "head.kernel: 2 energy",
        ),
    )
    head = flat_params(model)["head.kernel"]
    units = head / np.linalg.norm(head, axis=0)
    apart = [np.linalg.norm(units[:, i] - units[:, i - 1]) for i in range(3)]
    expected = 0.5 * sum(map(overlap, kernels.values()))
    expected += 0.25 * np.sum(head**2) + 2 * np.mean(1 / np.array(apart))
    np.testing.assert_allclose(compiled(model, config), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("*.kernel orthogonality", "entries `PATTERN: WEIGHT NAME`"),
        ("*.kernel: -1 orthogonality", "with a positive weight"),
        ("*.kernel: 1 orthogonalty", "Did you mean 'orthogonality'"),
        ("haed.kernel: 1 energy", r"nearest parameters are head\.kernel"),
        ("*: 1 energy", "compares filters, which lie along the last"),
    ],
)
def test_penalties_that_make_no_sense_are_refused_before_training(entry, message):
    model = nnx.eval_shape(lambda: models.SphereNet(depth=3, rngs=nnx.Rngs(0)))
    with pytest.raises(ValueError, match=message):
        check_penalty(model, recipes.Adam(penalties=(entry,)))
