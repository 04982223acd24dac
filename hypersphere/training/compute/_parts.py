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
        class_names: Name of each class, by label; empty where it is not known.
        contents: What tells the parts from other images, as `data.contents` has it;
            None where it is not known.
        validation: Examples to choose on; 0 without such a part.
    """

    name: str
    image_shape: tuple[int, ...]
    num_classes: int
    train: int
    test: int = 0
    dtype: str = "uint8"
    class_names: tuple[str, ...] = ()
    contents: Mapping[str, str] | None = None
    validation: int = 0

    @classmethod
    def of(cls, facts: dict[str, Any]) -> "Images":
        """From the facts that a checkpoint holds; old ones lack some."""
        known = {name: facts[name] for name in cls._fields if name in facts}
        found: Any = {k: tuple(v) if type(v) is list else v for k, v in known.items()}
        return cls(**found)

    def facts(self) -> dict[str, Any]:
        """What a checkpoint holds of them: what must not change on a resume."""
        facts = self._asdict() | {"contents": dict(self.contents or {})}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in facts.items()}

    def differences(self, then: "Images") -> list[str]:
        """What has changed since then, in words; not what was unknown then.

        Args:
            then: What a run was begun with.

        Returns:
            A clause for each difference; none if these are the same images, wherever
            they lie.
        """
        kind, images = _other_kind(then, self), _other_images(then, self)
        return [*kind, *self.renamed_since(then), *images]

    def renamed_since(self, then: "Images") -> list[str]:
        """Which classes had other names then, in words; none if that is not known."""
        if not then.class_names:
            return []
        pairs = enumerate(zip(then.class_names, self.class_names, strict=False))
        changed = [
            f"class {label} was {old!r} and is {new!r}"
            for label, (old, new) in pairs
            if old != new
        ]
        more = [f"{len(changed) - 3} more classes"] if len(changed) > 3 else []
        return changed[:3] + more


def _other_kind(then: Images, now: Images) -> list[str]:
    told = {
        "examples": lambda of: f"{of.dtype}{list(of.image_shape)}",
        "classes": lambda of: of.num_classes,
    }
    return [
        f"{what} were {tell(then)} and are {tell(now)}"
        for what, tell in told.items()
        if tell(then) != tell(now)
    ]


def _other_images(then: Images, now: Images) -> list[str]:
    found = []
    for part in ("train", "test", "validation"):
        old, new = (getattr(each, part) for each in (then, now))
        if old != new:
            found.append(f"there were {old:,} images to {part} and are {new:,}")
            continue
        before, here = ((each.contents or {}).get(part, "") for each in (then, now))
        if before not in ("", here):
            found.append(f"the images to {part} are others than they were")
    return found


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
            `config.eval_batch_size` divides their number. In training it is called
            only where `config.head.level` is `full`.

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


def has_features(model: Any) -> bool:
    """Whether a model has a method that gives what pictures show."""
    return callable(getattr(model, "features", None))


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
