"""All parts of a run: its own, and for the rest what its config makes."""

import functools
from collections.abc import Callable
from typing import Any

from flax import nnx

from hypersphere import optim
from hypersphere.training.compute._parts import Images, Parts, Whole, checked
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._head import HeadConfig


def complete(own: Parts, config: TrainConfig, images: Images) -> Whole:
    """All parts of a run.

    Args:
        own: Those that are not the config's.
        config: Its durations in steps; its recipes make the rest.
        images: What is trained on.
    """
    make: Any = functools.partial(config.model.make, config, images)
    if own.make_model is not None:
        make = checked(own.make_model)
        if config.head != HeadConfig():
            raise ValueError(
                "`config.head` has no effect on a model of one's own. Leave it at its "
                "defaults, and give the model the head that it is to have."
            )
    optimizer, schedule = own.optimizer, own.schedule
    if optimizer is not None:
        config.optim.refuse_unused()
    else:
        optimizer = config.optim.make(config.steps, nnx.eval_shape(make))
        schedule = schedule or config.optim.make_schedule(config.steps)
    if config.head.dtype != "float32":
        optimizer = optim.in_float32(optimizer, seed=config.seed)
    return Whole(
        make_model=make,
        loss=config.loss.make(images) if own.loss is None else own.loss,
        optimizer=optimizer,
        schedule=schedule,
        evaluate=own.evaluate
        or functools.partial(accuracy, images.num_classes, config.loss.scores),
    )


def accuracy(
    num_classes: int, scores_of: Callable[[Any], Any], outputs: Any, labels: Any
) -> dict[str, Any]:
    """Which examples are named right; nothing where there are no scores of classes."""
    scores = scores_of(outputs)
    if not num_classes or getattr(scores, "shape", ()) != (len(labels), num_classes):
        return {}
    return {"accuracy": scores.argmax(-1) == labels}
