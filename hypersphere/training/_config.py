"""What a run is made of: typed dataclasses, as JSON and back."""

import dataclasses
import difflib
import json
import re
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


@dataclasses.dataclass(slots=True, kw_only=True)
class DataConfig:
    """Which images, and what happens to them.

    Args:
        source: `mnist5k`, `tfds:NAME`, `folder:PATH`, `idx:PATH` or
            `synthetic:HxWxC,classes=K,examples=N`.
        data_dir: Where TensorFlow Datasets keeps its sets; empty for its own default.
        image_size: Pixels that images are resized to, square; 0 leaves them.
        test_fraction: Share of a folder without its own test part, in (0, 1).
        flip: Whether training images are mirrored at random, left to right.
        pad: Pixels that training images are shifted by at most, at random: a symmetric
            padding and a crop.
        mean: Pixel value that becomes 0.
        std: Pixel values that make 1.
    """

    source: str = "mnist5k"
    data_dir: str = ""
    image_size: int = 0
    test_fraction: float = 0.2
    flip: bool = False
    pad: int = 0
    mean: float = 127.5
    std: float = 128.0


@dataclasses.dataclass(slots=True, kw_only=True)
class ModelConfig:
    """The network: a `models.SphereNet`.

    Args:
        depth: Convolutions before the feature layer, a multiple of 3.
        width: What every number of filters is multiplied by, positive.
        similarity: `cosine`, `linear`, `sigmoid`, `learnable_sigmoid`, or `none` for
            plain convolutions.
        k: Softness of the sigmoid, dimensionless, positive.
        sphere_norm: Whether convolutions have a learned scale and shift per filter.
        relu: Whether convolutions are followed by a ReLU.
        batch_norm: Whether convolutions are followed by batch normalization.
        norm_features: Whether the feature layer is too.
        averages: How running averages begin: `flax`, `zero` or `debiased`.
        momentum: Share of the running averages that a step keeps, in [0, 1).
        epsilon: What batch normalization adds to the variance, positive.
        feature_dim: Length of the features; 0 for the network's own.
        dtype: What to compute in: `float32` or `bfloat16`. Parameters are float32.
    """

    depth: int = 9
    width: float = 1.0
    similarity: str = "cosine"
    k: float = 0.3
    sphere_norm: bool = False
    relu: bool = True
    batch_norm: bool = True
    norm_features: bool = False
    averages: str = "flax"
    momentum: float = 0.99
    epsilon: float = 1e-5
    feature_dim: int = 0
    dtype: str = "float32"


@dataclasses.dataclass(slots=True, kw_only=True)
class LossConfig:
    """What is minimized. Losses but `softmax` have an angular head.

    Args:
        name: `softmax`, `w_softmax`, `ga_softmax` or `a_softmax`.
        similarity: `cosine`, `linear` or `sigmoid`, for `w_softmax` and `ga_softmax`;
            empty for each one's own: cosine, and linear.
        k: Softness of the sigmoid, dimensionless, positive.
        margin: What the right class's angle is multiplied by, at least 1.
        anneal: Whether the margin is blended in as SphereFace does.
        anneal_base: Lambda at the first step.
        anneal_gamma: How fast lambda falls, per step.
        anneal_power: The exponent of the fall.
        anneal_min: Where lambda stops.
        label_smoothing: Share of the target spread over all classes, in [0, 1); for
            `softmax` and `w_softmax`.
        floor: What is added to each probability, at least 0; for the same two.
    """

    name: str = "softmax"
    similarity: str = ""
    k: float = 0.3
    margin: float = 4.0
    anneal: bool = False
    anneal_base: float = 1000.0
    anneal_gamma: float = 0.12
    anneal_power: float = 1.0
    anneal_min: float = 5.0
    label_smoothing: float = 0.0
    floor: float = 0.0


@dataclasses.dataclass(slots=True, kw_only=True)
class OptimConfig:
    """How it is minimized.

    Args:
        name: `adam` or `sgd`.
        learning_rate: The highest, positive.
        momentum: Of SGD, in [0, 1).
        nesterov: Whether SGD's momentum looks ahead.
        schedule: `constant`, `piecewise` or `cosine`.
        boundaries: Steps after which `piecewise` multiplies by `factor`.
        factor: What `piecewise` multiplies by, positive.
        warmup_steps: Steps over which the rate first rises from zero.
        orthogonality: Weight of the orthogonality penalty on spherical filters.
        l2: Weight of the sum of squares of plain kernels, the head, and the scales and
            biases of batch normalization.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "constant"
    boundaries: tuple[int, ...] = ()
    factor: float = 0.1
    warmup_steps: int = 0
    orthogonality: float = 1e-4
    l2: float = 0.0


@dataclasses.dataclass(slots=True, kw_only=True)
class TrainConfig:
    """A whole run.

    Args:
        steps: Updates of the parameters.
        batch_size: Images per step.
        eval_batch_size: Images per step of an evaluation; no effect on its result.
        seed: Of everything that is drawn, at least 0.
        log_every: Steps between lines of the training log.
        eval_every: Steps between evaluations on the test images.
        checkpoint_every: Steps between checkpoints.
        keep: Checkpoints that are kept, the newest ones.
        max_steps_per_call: Steps that one call of the compiled program makes at most,
            on GPU and TPU; on a CPU it is always one.
        compare: Losses to train with, one run each in a folder of its own, and to draw
            side by side; empty for the one run with `loss.name`.
        data: Which images.
        model: Which network.
        loss: What is minimized.
        optim: How it is minimized.
    """

    steps: int = 1000
    batch_size: int = 128
    eval_batch_size: int = 500
    seed: int = 0
    log_every: int = 50
    eval_every: int = 500
    checkpoint_every: int = 500
    keep: int = 2
    max_steps_per_call: int = 100
    compare: tuple[str, ...] = ()
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)


def to_json(config: TrainConfig) -> str:
    """The config as readable JSON text."""
    return json.dumps(dataclasses.asdict(config), indent=2) + "\n"


def from_json(text: str) -> TrainConfig:
    """The config that `to_json` wrote.

    Args:
        text: JSON text of one object.

    Returns:
        The config.

    Raises:
        ValueError: If the text has fields that a config does not have.

    Example:
        >>> from hypersphere import training
        >>> training.from_json('{"steps": 3, "optim": {"name": "sgd"}}').optim.name
        'sgd'
    """
    return _build(TrainConfig, json.loads(text), "")


def _build(kind: type, values: Mapping[str, Any], prefix: str) -> Any:
    hints = typing.get_type_hints(kind)
    arguments = {}
    for name, value in values.items():
        if name not in hints:
            raise ValueError(unknown_field(prefix + name))
        if dataclasses.is_dataclass(hints[name]):
            value = _build(typing.cast(type, hints[name]), value, f"{prefix}{name}.")
        arguments[name] = tuple(value) if isinstance(value, list) else value
    return kind(**arguments)


def flat(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every field by its dotted path."""
    fields = {}
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        path = prefix + field.name
        nested = dataclasses.is_dataclass(value)
        fields |= flat(value, f"{path}.") if nested else {path: value}
    return fields


def unknown_field(path: str) -> str:
    """The message for a field that does not exist, with the nearest that do."""
    known = list(flat(TrainConfig()))
    by_name = {name.rsplit(".", 1)[-1]: name for name in known}
    close = difflib.get_close_matches(path, known, n=3, cutoff=0.5)
    last = path.rsplit(".", 1)[-1]
    close += [by_name[n] for n in difflib.get_close_matches(last, by_name, n=3)]
    nearest = list(dict.fromkeys(close))[:3] or known
    return (
        f"The config has no field `config.{path}`. Did you mean "
        f"{' or '.join(f'`config.{name}`' for name in nearest)}?"
    )


def check_command_line(arguments: Iterable[str]) -> None:
    """Raises at the first `--config.FIELD` that no config has, or a missing file.

    Args:
        arguments: The words of the command line.

    Raises:
        ValueError: If a field does not exist; it names the nearest ones.
        FileNotFoundError: If the file of `--config=FILE` does not exist.

    Example:
        >>> from hypersphere import training
        >>> training.check_command_line(["--config.optim.learning_rate=0.1"])
    """
    known = flat(TrainConfig())
    for argument in arguments:
        file = re.match(r"--?config=([^:]+)", argument)
        if file and not Path(file[1]).is_file():
            there = ", ".join(map(str, sorted(Path("configs").glob("*.py"))))
            raise FileNotFoundError(
                f"`--config` needs a file, got `{file[1]}`, which is none. "
                f"There are: {there or 'none in ./configs'}."
            )
        match = re.match(r"--?(no)?config\.([^=]+)", argument)
        if match and match[2] not in known:
            raise ValueError(unknown_field(match[2]))


def describe(error: Exception) -> str:
    """A message for a config file that sets a field which no config has.

    Args:
        error: What loading the file raised.

    Returns:
        The nearest fields, where the error is about a field, else its own text.

    Example:
        >>> from hypersphere import training
        >>> try:
        ...     training.TrainConfig(stpes=3)
        ... except TypeError as error:
        ...     print(training.describe(error)[:34])
        The config has no field `config.st
    """
    field = re.search(
        r"(?:unexpected keyword argument|Config' object has no attribute) '(\w+)'",
        str(error),
    )
    return unknown_field(field[1]) if field else str(error)


def choose(who: str, name: str, table: Mapping[str, Any]) -> Any:
    """The entry of a table, or a message that lists them all."""
    if name not in table:
        close = difflib.get_close_matches(name, table, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"`config.{who}` needs one of {', '.join(map(repr, table))}, got "
            f"{name!r}.{hint}"
        )
    return table[name]


def check(config: TrainConfig) -> None:
    """Raises where a number of the config is out of its range."""
    fields = flat(config)
    at_least = {
        "steps": 1, "batch_size": 1, "eval_batch_size": 1, "seed": 0, "log_every": 1,
        "eval_every": 1, "checkpoint_every": 1, "keep": 1, "max_steps_per_call": 1,
        "data.image_size": 0, "data.pad": 0, "model.feature_dim": 0,
        "optim.warmup_steps": 0, "optim.orthogonality": 0, "optim.l2": 0,
        "loss.floor": 0, "loss.margin": 1,
    }  # fmt: skip
    for name, least in at_least.items():
        if not least <= fields[name] < float("inf"):
            raise ValueError(
                f"`config.{name}` must be at least {least}, got {fields[name]!r}."
            )
    positive = ("data.std", "optim.learning_rate", "optim.factor", "model.epsilon")
    for name in positive:
        if not 0 < fields[name] < float("inf"):
            raise ValueError(f"`config.{name}` must be positive, got {fields[name]!r}.")
    below_one = ("model.momentum", "optim.momentum", "loss.label_smoothing")
    for name in below_one:
        if not 0 <= fields[name] < 1:
            raise ValueError(
                f"`config.{name}` must be in [0, 1), got {fields[name]!r}."
            )
    boundaries = config.optim.boundaries
    if config.optim.schedule == "piecewise" and (
        not boundaries or list(boundaries) != sorted(set(boundaries))
    ):
        raise ValueError(
            "`config.optim.boundaries` must be rising steps for the schedule "
            f"'piecewise', at least one, got {tuple(boundaries)!r}."
        )
    if config.model.feature_dim == 1:
        raise ValueError(
            "`config.model.feature_dim` must be at least 2, or 0 for the network's own "
            "length: one number has no angle."
        )
    _refuse_ignored(config)
    if config.optim.schedule == "cosine" and config.optim.warmup_steps >= config.steps:
        raise ValueError(
            "`config.optim.warmup_steps` must be below `config.steps`, got "
            f"{config.optim.warmup_steps} and {config.steps}."
        )


def _refuse_ignored(config: TrainConfig) -> None:
    """Raises where a field is set that the others leave without effect."""
    loss, model = config.loss, config.model
    has_margin = loss.name in ("ga_softmax", "a_softmax")
    ignored = {
        "model.norm_features": model.norm_features and not model.batch_norm,
        "loss.anneal": loss.anneal and not has_margin,
        "loss.label_smoothing": loss.label_smoothing and has_margin,
        "loss.floor": loss.floor and has_margin,
        "loss.similarity": loss.similarity and loss.name in ("softmax", "a_softmax"),
    }
    if config.compare:  # the losses that are compared share one set of fields
        return
    for name, is_ignored in ignored.items():
        if is_ignored:
            raise ValueError(
                f"`config.{name}` has no effect with `config.loss.name={loss.name!r}` "
                f"and `config.model.batch_norm={model.batch_norm}`. Leave it at its "
                "default."
            )
