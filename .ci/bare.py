"""For `make bare`, where only the package's own dependencies are installed."""

import importlib
import importlib.util

import jax
import jax.numpy as jnp
from flax import nnx

import hypersphere
from hypersphere import linen, losses, models, nn, ops, regularizers

for absent in ("ml_collections", "matplotlib", "tensorboardX", "tensorflow_datasets"):
    assert importlib.util.find_spec(absent) is None, f"{absent} is installed"

try:
    importlib.import_module("hypersphere.training")
except ModuleNotFoundError as error:
    assert "pip install 'hypersphere-jax[train]'" in str(error), error
else:
    raise AssertionError("the training program needs no extra")

layer = nn.SphereConv(3, 4, (3, 3), similarity=ops.Linear(), rngs=nnx.Rngs(0))
assert layer(jnp.ones((1, 8, 8, 3))).shape == (1, 8, 8, 4)
assert nn.spherize(nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))).kernel.shape == (
    3,
    3,
    3,
    4,
)
variables = linen.SphereConv(4, (3, 3)).init(jax.random.key(0), jnp.ones((1, 8, 8, 3)))
assert variables["params"]["kernel"].shape == (3, 3, 3, 4)
assert regularizers.orthogonality(layer.kernel[...]).shape == ()
net = models.SphereNet(depth=3, width=1 / 64, head="angular", rngs=nnx.Rngs(0))
cos, feature_norm = net(jnp.ones((2, 32, 32, 3)))
assert losses.a_softmax(cos, jnp.array([0, 1]), feature_norm=feature_norm).shape == (2,)
print(f"hypersphere {hypersphere.__version__} works without extras")
