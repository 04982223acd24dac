"""Networks in which the convolution is a choice, so that each is its own baseline."""

from hypersphere.models._batch_norm import BatchNorm as BatchNorm
from hypersphere.models._decoupled_resnet import DecoupledResNet as DecoupledResNet
from hypersphere.models._googlenet import GoogLeNet as GoogLeNet
from hypersphere.models._layers import KERNEL_INIT as KERNEL_INIT, Network as Network
from hypersphere.models._prelu import PReLU as PReLU
from hypersphere.models._relu import relu as relu
from hypersphere.models._resnet import ResNet as ResNet
from hypersphere.models._spherenet import SphereNet as SphereNet
from hypersphere.models._vgg import VGG as VGG
