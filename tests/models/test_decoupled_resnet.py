import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from hypersphere import models, nn, ops
from hypersphere.models import _decoupled_resnet, _layers
from tests import helpers
from tests.models.sizes import IMAGENET, count

DecoupledResNet = models.DecoupledResNet
TANH = ops.magnitudes.Tanh()


def make(**arguments):
    return nnx.eval_shape(lambda: DecoupledResNet(**arguments, rngs=nnx.Rngs(0)))


def convolutions(net):
    return [module for _, module in nnx.iter_modules(net) if type(module) in KINDS]


KINDS = (nn.DecoupledConv, nn.SphereConv, nnx.Conv)


def test_the_sizes_are_the_authors():
    # Read off their program: the window, and the filters it takes and gives.
    root, between = [(7, 3, 128)], [(3, 128, 256), (3, 256, 512), (3, 512, 1024)]
    units = [(3, 128, 128)] * 2 + [(3, 256, 256)] * 4
    units += [(3, 512, 512)] * 6 + [(3, 1024, 1024)] * 2
    authors = sum(side**2 * a * b for side, a, b in root + between + units)
    filters = sum(b for _, _, b in root + between + units)
    slopes = sum(b for _, _, b in root + between) + 128 + 2 * 256 + 3 * 512 + 1024
    found = count(DecoupledResNet, **IMAGENET)
    assert found.kernels == authors + 1024 * 1000
    assert found.norms == 2 * filters
    assert found.others == filters + slopes  # radii and slopes
    spherical = count(DecoupledResNet, magnitude=None, **IMAGENET)
    plain = count(DecoupledResNet, magnitude=None, similarity=None, **IMAGENET)
    assert spherical == plain == found._replace(others=slopes)


@pytest.mark.parametrize(
    ("arguments", "kind"),
    [
        ({}, nn.DecoupledConv),
        (dict(magnitude=None), nn.SphereConv),
        (dict(magnitude=None, similarity=None), nnx.Conv),
    ],
)
def test_the_convolution_is_a_choice(arguments, kind):
    found = convolutions(make(**arguments))
    assert len(found) == 18 and {type(conv) for conv in found} == {kind}


def test_units_have_one_activation_inside_and_none_after_the_addition(draw):
    def make():
        choices = _layers.Choices(
            who="test", activation=models.PReLU, magnitude=TANH, rngs=nnx.Rngs(0)
        )
        return _decoupled_resnet._make_unit(4, choices)

    unit = helpers.filled(make)
    assert (unit.last, unit.shortcut, unit.entry) == (None, None, None)
    first, second = unit.layers
    assert isinstance(first.activation, models.PReLU) and second.activation is None
    graphdef, state = nnx.split(unit)

    @jax.jit
    def both(state, x):
        first, second = nnx.merge(graphdef, state).layers
        y = first.norm(first.conv(x))
        inside = jnp.where(y > 0, y, y * first.activation.slope[...][None, None, None])
        truth = x + second.norm(second.conv(inside))
        return nnx.merge(graphdef, state)(x), truth

    answer, truth = both(state, draw((2, 4, 4, 4)))
    np.testing.assert_allclose(answer, truth, rtol=1e-5, atol=1e-5)
    assert np.min(truth) < -0.1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(similarity=None), r"needs a similarity and no SphereNorm.*Tanh"),
        (dict(sphere_norm=True), r"`sphere_norm=True`. Pass `magnitude=None`"),
        (dict(image_size=16), r"at least 32, got `image_size=16`"),
        (dict(width=1 / 400), r"`DecoupledResNet`.*leaves every layer a filter"),
    ],
)
def test_a_wrong_argument_is_named(as_a_user, arguments, message):
    with pytest.raises(ValueError, match=message):
        DecoupledResNet(**arguments, rngs=nnx.Rngs(0))


def test_a_class_of_magnitudes_is_refused(as_a_user):
    with pytest.raises(TypeError, match=r"Write `Ball\(\)`"):
        DecoupledResNet(magnitude=ops.magnitudes.Ball, rngs=nnx.Rngs(0))
