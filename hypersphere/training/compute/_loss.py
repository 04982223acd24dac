"""A loss as a part of a run, with what it knows and learns."""

from typing import Any

from flax import nnx

# Variables that a step keeps as it leaves them: all but what is trained, drawn anew for
# every step, or noted in passing.
KEPT = nnx.Not(nnx.Any(nnx.Param, nnx.RngState, nnx.Intermediate))
LOSS = "loss"
"""Where the parameters and variables of a loss are, beside those of the model."""


class Loss:
    """A loss, whose parameters and variables, if any, are beside those of the model."""

    def __init__(self, loss: Any):
        self._call, self._graph = loss, None
        self._rest: Any = {}
        self.params: Any = {}
        self.stats: Any = {}
        if isinstance(loss, nnx.Module):
            self._graph, *kinds, self._rest = nnx.split(loss, nnx.Param, KEPT, ...)
            self.params, self.stats = map(nnx.to_pure_dict, kinds)

    def beside(self, of_model: Any, of_loss: Any) -> Any:
        """Both in one tree; that of the model alone where the loss has none."""
        if self._graph is not None and LOSS in of_model:
            raise ValueError(
                f"The training program keeps what belongs to the loss as {LOSS!r}, and "
                "the model has a part of that name. Name it otherwise."
            )
        return of_model | {LOSS: of_loss} if of_loss else of_model

    def without(self, tree: Any) -> Any:
        """The part of the model."""
        if self._graph is None or LOSS not in tree:
            return tree
        return {name: part for name, part in tree.items() if name != LOSS}

    def merged(self, params: Any, stats: Any, *, train: bool) -> Any:
        """The loss with what belongs to it, to be called."""
        if self._graph is None:
            return self._call
        parts = (tree[LOSS] if LOSS in tree else {} for tree in (params, stats))
        loss = nnx.merge(self._graph, *parts, self._rest)
        loss.train() if train else loss.eval()
        return loss

    def stats_of(self, loss: Any) -> Any:
        """The variables of a loss that has been called."""
        return {} if self._graph is None else nnx.to_pure_dict(nnx.state(loss, KEPT))
