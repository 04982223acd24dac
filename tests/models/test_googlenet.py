import jax
import numpy as np
import pytest
from flax import nnx

from hypersphere import models
from hypersphere.models import _googlenet, _layers
from tests import helpers
from tests.models.sizes import IMAGENET, count, shapes

GoogLeNet = models.GoogLeNet


@pytest.mark.slow
def test_the_number_of_parameters_is_torchvisions_with_real_5x5_branches():
    torchvision = 6_624_904
    bias_of_the_head = 1_000
    fives = [shape for shape in shapes(GoogLeNet, **IMAGENET).values() if shape[0] == 5]
    assert len(fives) == 9
    # Theirs has 3x3 windows in these branches.
    more = sum((25 - 9) * shape[2] * shape[3] for shape in fives)
    ours = count(GoogLeNet, similarity=None, **IMAGENET)
    assert sum(ours) == torchvision - bias_of_the_head + more
    assert count(GoogLeNet, **IMAGENET) == ours


def test_modules_answer_as_many_features_as_the_paper_has():
    net = nnx.eval_shape(lambda: GoogLeNet(rngs=nnx.Rngs(0)))
    features = [[module.out_features for module in stage] for stage in net.stages]
    assert features == [[256, 480], [512, 512, 512, 528, 832], [832, 1024]]


def test_a_module_joins_its_branches_in_the_papers_order(draw):
    def make():
        choices = _layers.Choices(
            who="test", similarity=None, norm=None, rngs=nnx.Rngs(0)
        )
        return _googlenet._Inception(12, (4, 6, 8, 1, 2, 2), choices)

    module = helpers.filled(make)
    one, (before, three), (_, five), (pooled,) = module.branches
    assert three.conv.kernel_size == (3, 3) and five.conv.kernel_size == (5, 5)
    x = draw((2, 4, 4, 12))
    wide = np.pad(np.asarray(x), [(0, 0), (1, 1), (1, 1), (0, 0)], constant_values=-9)
    shifted = [wide[:, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
    respond = jax.jit(
        lambda x, maxima: (module(x), one[0](x), three(before(x)), pooled(maxima))
    )
    joined, ones, threes, pools = map(np.asarray, respond(x, np.max(shifted, axis=0)))
    np.testing.assert_allclose(joined[..., :4], ones, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(joined[..., 4:12], threes, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(joined[..., -2:], pools, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(image_size=31), r"at least 32, got `image_size=31`"),
        (dict(width=1 / 40), r"`GoogLeNet`.*leaves every layer a filter"),
    ],
)
def test_a_wrong_argument_is_named(as_a_user, arguments, message):
    with pytest.raises(ValueError, match=message):
        nnx.eval_shape(lambda: GoogLeNet(**arguments, rngs=nnx.Rngs(0)))


def test_there_is_one_depth(as_a_user):
    with pytest.raises(TypeError, match=r"arguments that it has, got depth\. Those of"):
        GoogLeNet(depth=22, rngs=nnx.Rngs(0))
