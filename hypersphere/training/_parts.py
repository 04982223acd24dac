"""What a run is made of beyond its config: a model, a loss, an optimizer."""

import dataclasses
import inspect
import os
import sys
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx


class Images(NamedTuple):
    """What a run is trained on, described: it holds no arrays.

    Attributes:
        name: Of the set, as `config.data.source` has it.
        image_shape: Height, width and channels; the shape of another example.
        num_classes: How many classes there are; labels are int32 below that. 0 where
            labels are something else.
        train: Examples to train on.
        test: Examples to test on.
        dtype: `uint8`, of images that models get normalized, or that of other
            examples, which they get as they are.
    """

    name: str
    image_shape: tuple[int, ...]
    num_classes: int
    train: int
    test: int = 0
    dtype: str = "uint8"

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Images":
        """From the facts that a checkpoint holds."""
        found: Any = facts | {"image_shape": tuple(facts["image_shape"])}
        return cls(**found)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds of them: what must not change on a resume."""
        found = self._asdict() | {"image_shape": list(self.image_shape)}
        return {k: v for k, v in found.items() if (k, v) != ("dtype", "uint8")}


LossFunction = Callable[[Any, Any, jax.Array], Any]
"""(what the model returned, labels, step) -> one number per example, or several."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parts:
    """Parts of a run that are one's own; what is None is as the config says.

    Args:
        make_model: () -> an `nnx.Module`, called as `model(images)` on float images of
            shape (batch, height, width, channels), or as `model(images, rngs=rngs)`
            where it has that argument. It may return what the loss takes. Its
            `nnx.Param` are trained; its random streams are a function of
            `config.seed` and the step; all its other variables, such as the running
            averages of batch normalization, are kept as a step leaves them. A method
            `features(images)` gives what pictures show. A Linen module comes as
            `nnx.bridge.ToNNX`.
        loss: (what the model returned, labels, step) -> one number per example, shape
            (batch,), or a dictionary with these as `loss` and more to be logged: each
            one number per example, or one in all. An `nnx.Module` may have parameters,
            which are trained, and variables, which a step of training may change. With
            `config.data.mixup` or `cutmix` it is called twice a step.
        optimizer: What makes updates of gradients; it takes the place of
            `config.optim` but for its penalties and `ema`. It sees parameters as
            `nnx.to_pure_dict(nnx.state(model, nnx.Param))`.
        schedule: step -> its learning rate, to be logged.
        evaluate: (what the model returned, labels) -> a dictionary of further numbers
            to be logged, each one number per example or one in all. What it calls
            `accuracy` decides which checkpoint is the best; without, the loss does.
            The last batch of an evaluation may be filled up with examples that do not
            count; a number that couples the examples of a batch sees them, unless
            `config.eval_batch_size` divides their number.

    Example:
        >>> import optax
        >>> from hypersphere import training
        >>> parts = training.Parts(optimizer=optax.sgd(0.1))
        >>> parts.given
        ('optimizer',)
    """

    make_model: Callable[[], nnx.Module] | None = None
    loss: LossFunction | nnx.Module | None = None
    optimizer: optax.GradientTransformation | None = None
    schedule: optax.Schedule | None = None
    evaluate: Callable[[Any, Any], dict[str, Any]] | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The names of those that are not None."""
        fields = (field.name for field in dataclasses.fields(self))
        return tuple(name for name in fields if getattr(self, name) is not None)


class Whole(NamedTuple):
    """All parts of a run, by the names of `Parts`; only a schedule may be missing."""

    make_model: Callable[[], nnx.Module]
    loss: Any
    optimizer: optax.GradientTransformation
    schedule: optax.Schedule | None
    evaluate: Callable[[Any, Any], dict[str, Any]]


MakeParts = Callable[[Any, Images], Parts]
"""(config with durations in steps, what is trained on) -> parts."""


def own_of(file: str | os.PathLike[str]) -> dict[str, Any]:
    """What a config file brings of its own, besides `get_config`.

    Args:
        file: The path, which may have the parameters of `get_config` behind a colon.

    Returns:
        The file's functions `get_parts` and `get_dataset`, those that are there, as the
        arguments `parts` and `dataset` of `train` and `dry_run`.

    Raises:
        FileNotFoundError: If there is no such file.

    Example:
        >>> from hypersphere import training
        >>> list(training.own_of("examples/pairs.py"))
        ['parts']
    """
    path = Path(os.fspath(file).partition(":")[0])
    if not path.is_file():
        raise FileNotFoundError(f"There is no config file {path}.")
    name = f"config_{path.stem}"
    loader = SourceFileLoader(name, str(path))
    module = types.ModuleType(name)
    module.__file__ = str(path)
    sys.modules[name] = module  # where dataclasses look for their own module
    loader.exec_module(module)
    return hooks(vars(module))


def hooks(names: Mapping[str, Any]) -> dict[str, Any]:
    """What of the names in a config file is given to `train`, as `own_of` has it."""
    of_train = ("parts", "dataset")
    return {name: names[f"get_{name}"] for name in of_train if f"get_{name}" in names}


def made(parts: Parts | MakeParts | None, config: Any, images: Images) -> Parts:
    """The parts themselves, from them or from what makes them."""
    found = parts(config, images) if callable(parts) else parts or Parts()
    if not isinstance(found, Parts):
        raise ValueError(
            f"`{_name(parts)}` needs to return `training.Parts`, got "
            f"{type(found).__name__}."
        )
    return found


def told(parts: Parts | MakeParts | None, given: Sequence[str]) -> dict[str, Any]:
    """What a checkpoint says of what was not the config's."""
    code = getattr(parts, "__code__", None)
    return {"given": list(given), "file": code.co_filename if code else ""}


def refuse_others(there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raises if a run would go on with other parts of its own than it was begun with.

    Args:
        there: What `told` has said of it; empty for nothing.
        here: What it says now.
    """
    old, new = (set(x.get("given", ())) - _FREE for x in (there, here))
    if changed := sorted(old ^ new):
        before, now = (", ".join(sorted(names)) or "nothing" for names in (old, new))
        raise ValueError(
            f"This run was begun with {before} of its own, and has {now} now: "
            f"{', '.join(changed)} differs. Give what it was begun with, or choose "
            "another --workdir, or go on with --allow_changes."
        )


_FREE = {"schedule", "evaluate"}  # they change nothing that is learned


def refuse_missing(there: dict[str, Any], given: Collection[str]) -> None:
    """Raises if a run was trained with something of its own that it now lacks.

    Args:
        there: What `told` has said of it; empty for nothing.
        given: What is given now, of `parts` and `dataset`.
    """
    names = there.get("given", ())
    needed = {"dataset" if name == "dataset" else "parts" for name in names}
    missing = sorted(needed - set(given))
    if missing:
        file = f" of {there['file']}" if there["file"] else ""
        give = " and ".join(f"`{name}` (`get_{name}`{file})" for name in missing)
        raise ValueError(
            f"This run has something of its own ({', '.join(there['given'])}), which "
            f"its folder does not hold. Give {give}, as it was begun with."
        )


def checked(make_model: Callable[[], Any]) -> Callable[[], nnx.Module]:
    """What makes a model, and raises if it is none."""

    def make() -> nnx.Module:
        model = make_model()
        if isinstance(model, nnx.Module):
            return model
        raise ValueError(
            "`Parts` needs `make_model` to return an `nnx.Module`, got "
            f"{type(model).__name__}. A Linen module comes as `nnx.bridge.ToNNX`."
        )

    return make


def named(values: Any) -> dict[str, Any]:
    """A loss and what is logged with it, from a loss function's answer."""
    return dict(values) if isinstance(values, dict) else {"loss": values}


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


def has_features(model: Any) -> bool:
    """Whether a model has a method that gives what pictures show."""
    return callable(getattr(model, "features", None))


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


def call_model(model: Any, images: jax.Array, rngs: nnx.Rngs | None = None) -> Any:
    """The model's answer; random numbers for those that take them with a call."""
    if rngs is not None and takes_rngs(model):
        return model(images, rngs=rngs)
    return model(images)


def takes_rngs(model: nnx.Module) -> bool:
    """Whether a model is called with `rngs`."""
    return "rngs" in inspect.signature(type(model).__call__).parameters


def _name(parts: Any) -> str:
    return getattr(parts, "__name__", "parts")
