"""What the names in a config mean: networks, losses, optimizers, schedules.

Each is a dataclass with the fields that go with the name, and makes its part of a run.
`config.loss = recipes.GASoftmax(margin=1.5)` says the same as `config.loss.name =
"ga_softmax"` with `config.loss.margin = 1.5`. Sources of images are the rows of
`data.load`.

Needs the extra `[train]`.
"""

from hypersphere.recipes._adam import Adam as Adam, AdamW as AdamW
from hypersphere.recipes._centres import (
    ArcFace as ArcFace,
    CombinedMargin as CombinedMargin,
    CosFace as CosFace,
    MadaCos as MadaCos,
    MagFace as MagFace,
    NormFace as NormFace,
    SphereFace as SphereFace,
    SphereFaceR as SphereFaceR,
)
from hypersphere.recipes._losses import (
    LOSSES as LOSSES,
    ASoftmax as ASoftmax,
    GASoftmax as GASoftmax,
    Softmax as Softmax,
    SphericalSoftmax as SphericalSoftmax,
    TaylorSoftmax as TaylorSoftmax,
    WSoftmax as WSoftmax,
    ZLoss as ZLoss,
)
from hypersphere.recipes._models import (
    MODELS as MODELS,
    VGG as VGG,
    DecoupledResNet as DecoupledResNet,
    GoogLeNet as GoogLeNet,
    ResNet as ResNet,
    SphereNet as SphereNet,
)
from hypersphere.recipes._muon import Muon as Muon, NorMuon as NorMuon
from hypersphere.recipes._on_spheres import (
    SGDP as SGDP,
    AdamP as AdamP,
    Hyperball as Hyperball,
    ManifoldMuon as ManifoldMuon,
    RiemannianAdam as RiemannianAdam,
    RiemannianSGD as RiemannianSGD,
)
from hypersphere.recipes._optimizers import (
    LAMB as LAMB,
    OPTIMIZERS as OPTIMIZERS,
    SGD as SGD,
    Lion as Lion,
)
from hypersphere.recipes._schedules import (
    SCHEDULES as SCHEDULES,
    Constant as Constant,
    Cosine as Cosine,
    Piecewise as Piecewise,
    Polynomial as Polynomial,
    Trapezoid as Trapezoid,
)
from hypersphere.recipes._stateful import (
    AdaCos as AdaCos,
    AdaFace as AdaFace,
    CurricularFace as CurricularFace,
    SphereFace2 as SphereFace2,
)

FAMILIES = {
    "model": MODELS,
    "loss": LOSSES,
    "optim": OPTIMIZERS,
    "optim.schedule": SCHEDULES,
}
"""Section of a config -> name -> what it can be; the first is the default."""
