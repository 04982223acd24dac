"""Whether the parts of a run fit together, before anything is compiled."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from hypersphere.training.compute._parts import (
    Images,
    Whole,
    call_model,
    has_features,
    named,
)


def check_parts(parts: Whole, images: Images, labels: Any, batch: int) -> None:
    """Raises, in one line each, where a run's own parts do not fit together.

    Args:
        parts: All of them.
        images: What is trained on.
        labels: What the set says of an example, in shapes.
        batch: Examples of a step.
    """
    model, outputs = _outputs(parts, images, batch)
    labels = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct((batch, *x.shape), x.dtype), labels
    )
    told = _loss(parts, outputs, labels)
    _check_numbers("loss", told, batch, needs="loss")
    found = _tried("evaluate", parts.evaluate, outputs, labels)
    _check_numbers("evaluate", found, batch)
    if twice := sorted(told.keys() & found.keys()):
        raise ValueError(
            f"`Parts` has {twice[0]!r} in what `loss` gives and in what `evaluate` "
            "gives. Name one of them otherwise."
        )
    params = nnx.to_pure_dict(nnx.state(model, nnx.Param))
    if not isinstance(parts.optimizer, optax.GradientTransformation):
        raise ValueError(
            "`Parts` needs `optimizer` to be an `optax.GradientTransformation`, got "
            f"{type(parts.optimizer).__name__}."
        )
    if not jax.tree.leaves(params):
        raise ValueError(
            "`Parts` needs a model with parameters, `nnx.Param`, got none."
        )
    update = lambda p: parts.optimizer.update(p, parts.optimizer.init(p), p)  # noqa: E731
    _tried("the optimizer's `update(gradients, state, params)`", update, params)


def _outputs(parts: Whole, images: Images, batch: int) -> tuple[nnx.Module, Any]:
    model = nnx.eval_shape(parts.make_model)
    dtype = "float32" if images.dtype == "uint8" else images.dtype
    inputs = jax.ShapeDtypeStruct((batch, *images.image_shape), dtype)
    model.train()

    def train(model: Any, inputs: jax.Array) -> Any:
        return call_model(model, inputs, nnx.Rngs(0))

    who = f"the model, on images of shape {inputs.shape},"
    outputs = _tried(who, lambda: nnx.eval_shape(train, model, inputs))
    model.eval()
    _tried(f"{who} in evaluation,", lambda: nnx.eval_shape(call_model, model, inputs))
    if has_features(model):
        features = lambda model, x: model.features(x)  # noqa: E731
        found = _tried("features", lambda: nnx.eval_shape(features, model, inputs))
        if len(getattr(found, "shape", ())) != 2:
            raise ValueError(
                "`Parts` needs `features(images)` of a model to give an array of shape "
                f"(batch, features), got {found}. Name the method otherwise if it is "
                "for something else."
            )
    return model, outputs


def _loss(parts: Whole, outputs: Any, labels: Any) -> dict[str, Any]:
    loss, step = parts.loss, jax.ShapeDtypeStruct((), jnp.int32)
    if isinstance(loss, nnx.Module):  # which may change itself
        called = lambda *shapes: nnx.eval_shape(lambda m, *a: m(*a), loss, *shapes)  # noqa: E731
        return named(_tried("loss", lambda: called(outputs, labels, step)))
    return named(_tried("loss", loss, outputs, labels, step))


def _tried(who: str, function: Any, *shapes: Any) -> Any:
    """What a part answers, in shapes; its mistake in a line that names it."""
    try:
        return jax.eval_shape(function, *shapes) if shapes else function()
    except Exception as error:
        what = str(error).strip().splitlines()
        raise ValueError(
            f"`Parts`: {who} cannot be called: {type(error).__name__}: "
            f"{what[0] if what else ''}"
        ) from error


# What a line of the log and the result hold besides the metrics.
_TAKEN = (
    "data_wait", "device", "devices", "examples", "examples_per_second",
    "flop_utilization", "goodput", "grad_norm", "learning_rate", "memory_gib",
    "param_norm", "parameters", "seconds", "seed", "skipped", "split", "step",
    "step_ms_p50", "step_ms_p95", "steps", "time", "versions",
)  # fmt: skip


def _check_numbers(who: str, found: Any, batch: int, *, needs: str = "") -> None:
    if not isinstance(found, dict) or needs not in {"", *found}:
        raise ValueError(
            f"`Parts` needs `{who}` to give a dictionary"
            + (f" with `{needs}`" if needs else "")
            + f", got {sorted(found) if isinstance(found, dict) else found}."
        )
    for name, value in found.items():
        if name in _TAKEN or (name == "loss" and not needs):
            raise ValueError(
                f"`Parts` has {name!r} among what `{who}` gives, which means something "
                "else in a log. Name it otherwise."
            )
        shape = jnp.shape(value)
        if shape != (batch,) and (shape or name == needs):
            raise ValueError(
                f"`Parts` needs `{who}` to give one number per example, of shape "
                f"({batch},) for this batch, got {name!r} of shape {shape}."
            )
