"""Networks in which the convolution is a choice, so that each is its own baseline."""

from hypersphere.models._batch_norm import BatchNorm as BatchNorm
from hypersphere.models._spherenet import SphereNet as SphereNet
