"""Muon by name: directions of kernels as matrices with equal singular values."""

import dataclasses
import math
from collections.abc import Collection
from typing import Any

import optax
from optax import contrib

from hypersphere import optim
from hypersphere.recipes._optimizer import Optimizer, Transformations
from hypersphere.recipes._parameters import by_path, inner, mask
from hypersphere.training.settings import number

# Muon's steps have the root mean square of Adam's, which is about this.
_ADAM_RMS = 0.2


@dataclasses.dataclass(kw_only=True)
class Muon(Optimizer):
    """Muon for kernels, Adam for the rest; with the fields of every optimizer.

    It takes the kernels outside of `head`, as matrices (fan_in, filters). One learning
    rate serves both: Muon's steps are scaled to the size of Adam's.

    References:
        Jordan et al., Muon, 2024. https://kellerjordan.github.io/posts/muon/
        Liu et al., Muon is Scalable for LLM Training, 2025: the size of its steps.
        https://arxiv.org/abs/2502.16982
    """

    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """Muon's direction and Adam's, and the decay."""
        return [*muon(kernels), *decay]


@dataclasses.dataclass(kw_only=True)
class NorMuon(Muon):
    """Muon whose filters all move about as far, Adam for the rest.

    Args:
        b2: Share of a filter's mean square that a step keeps, in [0, 1).

    References:
        Li et al., NorMuon, 2025. https://arxiv.org/abs/2510.05491
    """

    b2: float = number(0.95, 0, 1, "[)")

    def direction(
        self, kernels: Collection[str], decay: Transformations
    ) -> Transformations:
        """Muon's direction, evened out, and Adam's, and the decay."""
        evened = optim.scale_by_filter_rms(self.b2)
        return [*muon(kernels), optax.masked(evened, mask(inner(kernels))), *decay]


def muon(kernels: Collection[str]) -> Transformations:
    """Muon's direction for kernels but those of the head, Adam's for the rest."""
    matrices = inner(kernels)

    def axes(path: str, leaf: Any) -> contrib.MuonDimensionNumbers | None:
        if path not in matrices:
            return None
        *fan_in, filters = range(leaf.ndim)
        return contrib.MuonDimensionNumbers(fan_in, filters)

    def resized(path: str, update: Any) -> Any:
        # Optax has scaled by sqrt(max(1, filters / fan_in)); together they are
        # sqrt(max(fan_in, filters)), which makes the mean square of an entry one.
        size = _ADAM_RMS * math.sqrt(math.prod(update.shape[:-1]))
        return size * update if path in matrices else update

    # At the rate -1, of which Optax takes the negative, a step is the direction.
    direction = contrib.muon(-1.0, muon_weight_dimension_numbers=by_path(axes))
    return [direction, optax.stateless(lambda updates, _: by_path(resized)(updates))]
