"""What a run is made of: typed dataclasses."""

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar

from hypersphere import data
from hypersphere.training.settings._durations import Duration
from hypersphere.training.settings._evaluation import Evaluation, Evaluations
from hypersphere.training.settings._fields import PerChannel, number, option
from hypersphere.training.settings._head import LEVELS, HeadConfig
from hypersphere.training.settings._recipe import Recipe, Section, recipe


@dataclasses.dataclass(slots=True, kw_only=True)
class DataConfig:
    """Which images, and what happens to them.

    Args:
        source: `mnist5k`, `tfds:NAME`, `folder:PATH`, `tar:PATH`, `idx:PATH`,
            `cifar:PATH` or `synthetic:HxWxC,classes=K,examples=N`.
        data_dir: Where TensorFlow Datasets keeps its sets; empty for its own default.
        image_size: Pixels that images are resized to, square; 0 leaves them.
        test_fraction: Share of a folder without its own test part, in (0, 1).
        validation_fraction: Share of the training images, in [0, 1), drawn by the seed,
            that are not trained on: they say which checkpoint is the best, and when
            `patience` ends. 0 for none: then the test images do.
        train_examples: How many of the images that are left are trained on, drawn by
            the seed; 0 for all.
        empty_classes: Whether a folder may have classes without an image in a part.
        stream: Whether images are decoded while training, each by a random crop of
            its own, as `tfds:`, `folder:` and `tar:` allow; else the whole set lies on
            the device.
        min_crop: Smallest share of a streamed image's area that a crop keeps, (0, 1].
        crop_fraction: Share of a streamed test image's shorter side that is kept.
        threads: Threads that decode streamed images; 0 for one per core, at most 16.
        workers: Processes that decode streamed images; 0 for threads alone.
        max_bad: Share of image files that may turn out unreadable, in [0, 1], and are
            left out; where they are streamed, each process counts those it has met.
        orient: Whether image files are turned the way that their EXIF data tell.
        max_pixels: Pixels that an image file may have at most; one that promises more
            counts as unreadable.
        flip: Whether training images are mirrored at random, left to right.
        pad: Pixels that training images are shifted by at most, at random: a symmetric
            padding and a crop.
        rand_layers: Operations of RandAugment per image; 0 for none.
        rand_magnitude: Their strength, in [0, 10].
        erase: Share of images of which a random rectangle is erased, in [0, 1].
        mixup: Alpha of the Beta distribution by which images are mixed; 0 for not.
        cutmix: The same for rectangles of images. With both, each batch draws one.
        mean: Pixel value that becomes 0; one number, or one for each channel.
        std: Pixel values that make 1; as `mean`.
    """

    source: str = "mnist5k"
    data_dir: str = ""
    image_size: int = number(0, 0)
    test_fraction: float = number(0.2, 0, 1, "()")
    validation_fraction: float = number(0.0, 0, 1, "[)")
    train_examples: int = number(0, 0)
    empty_classes: bool = False
    stream: bool = False
    min_crop: float = number(0.08, 0, 1, "(]")
    crop_fraction: float = number(0.875, 0, 1, "(]")
    threads: int = number(0, 0)
    workers: int = number(0, 0)
    max_bad: float = number(0.01, 0, 1)
    orient: bool = True
    max_pixels: int = number(data.MAX_PIXELS, 1)
    flip: bool = False
    pad: int = number(0, 0)
    rand_layers: int = number(0, 0)
    rand_magnitude: float = number(9.0, 0, 10)
    erase: float = number(0.0, 0, 1)
    mixup: float = number(0.0, 0)
    cutmix: float = number(0.0, 0)
    mean: PerChannel = 127.5
    std: PerChannel = number(128.0, 0, ends="()")


@dataclasses.dataclass(kw_only=True)
class ModelConfig(Recipe, abc.ABC):
    """The network: what all of `recipes.MODELS` have, and the program looks at.

    Args:
        batch_norm: Whether convolutions are followed by batch normalization.
        averages: How running averages begin: `flax`, `zero` or `debiased`.
        remat: Whether the backward pass computes each layer again instead of keeping
            what is inside it.
        dtype: What to compute in: `float32` or `bfloat16`. Parameters are float32.
    """

    path: ClassVar[str] = "model"

    batch_norm: bool = True
    averages: str = "flax"
    remat: bool = False
    dtype: str = option("float32", ("float32", "bfloat16"))

    @abc.abstractmethod
    def make(self, config: "TrainConfig", images: Any) -> Any:
        """The network for `training.Images`, with fresh parameters."""


@dataclasses.dataclass(kw_only=True)
class LossConfig(Recipe, abc.ABC):
    """What is minimized: what all of `recipes.LOSSES` have.

    Attributes:
        head: What the network ends with: `linear` scores, or an `angular` head.
        levels: Of `HeadConfig.level`, those that it can do with.
        takes_scale: Whether a scale of the head may take the place of the features'
            lengths.
    """

    path: ClassVar[str] = "loss"
    head: ClassVar[str] = "angular"
    levels: ClassVar[tuple[str, ...]] = LEVELS
    takes_scale: ClassVar[bool] = True

    def check_head(self, head: HeadConfig) -> None:
        """Raises where the head is not one that this loss can do with."""
        if self.head != "angular" and head != HeadConfig():
            raise ValueError(
                f"`config.head` has no effect with `config.loss.name={self.name!r}`, "
                "which takes a linear head. Leave it at its defaults, or choose a loss "
                "on class centres."
            )
        if head.level not in self.levels:
            raise ValueError(
                f"`config.head.level={head.level!r}` does not go with `config.loss."
                f"name={self.name!r}`, which needs the cosines to all classes at once. "
                "Use 'full', or another loss."
            )
        if head.scale and not self.takes_scale:
            raise ValueError(
                f"`config.head.scale={head.scale!r}` takes the place of the features' "
                f"lengths, for which `config.loss.name={self.name!r}` has no use, or "
                "which it needs as they are. Leave it at 0."
            )

    @abc.abstractmethod
    def make(self, images: Any) -> Any:
        """(what the model returned, labels, step) -> one number per example.

        Args:
            images: The `training.Images` that is trained on.
        """

    def scores(self, outputs: Any) -> Any:
        """What is largest for the predicted class, of what the model returned."""
        return outputs[0] if isinstance(outputs, tuple) else outputs

    def logits(self, outputs: Any) -> Any:
        """What probabilities are the softmax of, without a margin.

        Of an angular head by default the feature's length times the cosines.
        """
        if isinstance(outputs, tuple):
            cos, norm = outputs
            return norm * cos
        return outputs


@dataclasses.dataclass(kw_only=True)
class OptimConfig(Recipe, abc.ABC):
    """How it is minimized: what holds for any optimizer, also one of one's own.

    Args:
        ema: Share of the averaged weights that a step keeps, in [0, 1); 0 for none.
        orthogonality: Weight of the orthogonality penalty on spherical filters.
        l2: Weight of the sum of squares of plain kernels, the head, and the scales and
            biases of batch normalization.
        penalties: Further ones, on any parameters, `PATTERN: WEIGHT NAME` such as
            `*.conv.kernel: 0.1 half_space_energy`; a wrong name lists them all. Of all
            parameters that a pattern fits the penalties are added up.
    """

    path: ClassVar[str] = "optim"

    ema: float = number(0.0, 0, 1, "[)")
    orthogonality: float = number(1e-4, 0)
    l2: float = number(0.0, 0)
    penalties: tuple[str, ...] = ()

    @abc.abstractmethod
    def make(self, steps: int, model: Any) -> Any:
        """An Optax transformation for the parameters of a model, or of its shapes."""

    @abc.abstractmethod
    def make_schedule(self, steps: int) -> Callable[[Any], Any]:
        """The learning rate of each step, counted from 0."""

    def still(self) -> tuple[str, ...]:
        """Patterns of the layers whose running averages stand still."""
        return ()

    @abc.abstractmethod
    def refuse_unused(self) -> None:
        """Raises if a field is set that an optimizer of one's own leaves unused."""


@dataclasses.dataclass(slots=True, kw_only=True)
class MeshConfig:
    """How the devices are arranged and what lies where.

    Args:
        data: Devices over which a batch is divided; -1 for all that are left.
        fsdp: Devices over which a batch and the parameters are divided.
        model: Devices over which the classes of the head are divided.
        rules: `PATTERN: AXES` with one axis per dimension of a parameter (`-` for
            none), or `auto` for its largest dimension over `fsdp`; the first pattern
            that fits counts. What fits none is everywhere.
    """

    data: int = number(-1, -1)
    fsdp: int = number(1, 1)
    model: int = number(1, 1)
    rules: tuple[str, ...] = ("head.kernel: - model", "*: auto")


@dataclasses.dataclass(slots=True, kw_only=True)
class GuardConfig:
    """What happens when training goes wrong.

    Args:
        max_skipped: Steps that may be left out because a loss, gradient or parameter
            was not finite; one more ends the run.
        spike: Standard deviations above the mean at which a loss is a spike; 0 for
            never.
        window: Losses that mean and deviation are taken over, at least 2.
        max_rewinds: Times that a spike leads back to the newest checkpoint, past the
            images that led to it; one more ends the run.
        full_disk: `stop`, or `continue` without the checkpoint that found no room.
    """

    max_skipped: int = number(0, 0)
    spike: float = number(0.0, 0)
    window: int = number(100, 2)
    max_rewinds: int = number(3, 0)
    full_disk: str = option("stop", ("stop", "continue"))


@dataclasses.dataclass(kw_only=True)
class TrainConfig(Section):
    """A whole run.

    A model, a loss, an optimizer and its schedule are recipes, set as such or by their
    names, with the fields of the one that is chosen: `config.loss =
    recipes.GASoftmax(margin=1.5)`, or `config.loss.name = "ga_softmax"` and
    `config.loss.margin = 1.5`.

    A duration is a number of steps, or a text with a unit: `"5 epochs"`, `"10000
    examples"`, or `"2.5%"` of the run.

    Args:
        steps: How long to train; any duration but a percentage.
        batch_size: Images per step.
        eval_batch_size: Images per step of an evaluation; no effect on its result,
            but on those of `@batch` and `@recalibrated`.
        accumulate: Parts of a batch that are computed one after the other, to save
            memory. Batch normalization sees the parts.
        seed: Of everything that is drawn, at least 0.
        log_every: Duration between lines of the training log.
        log_geometry: Whether these also have, for each kernel, the angle that a step
            turns its filters by, `turn/PATH` in radians, the norm of its gradient,
            `gradient/PATH`, and the filters' hyperspherical energy, `energy/PATH`; and
            `plots/geometry.png` is drawn.
        eval_every: Duration between evaluations on the test images, and on the
            validation images if there are any.
        evaluators: Further evaluations, each an `Evaluation`, or its text: `train every
            5 epochs`, `test@batch of 1000 every 10%`.
        checkpoint_every: Duration between checkpoints.
        keep: Checkpoints that are kept, the newest ones.
        keep_best: Checkpoints that are kept besides, those of the best accuracy on the
            validation images, if there are any, else on the test images; or of the
            lowest loss where there is no accuracy.
        patience: Evaluations without a better one after which training ends; 0 for
            never.
        init_from: Folder of a run to start from; empty for fresh parameters.
        init_fresh: Patterns of parameters that start afresh all the same.
        max_steps_per_call: Steps that one call of the compiled program makes at most,
            on GPU and TPU; on a CPU it is always one.
        profile: First and last step of which a profile is written; empty for none.
        wandb: Project of Weights & Biases to log to as well; empty for none.
        data: Which images.
        model: Which network, one of `recipes.MODELS`.
        head: What it ends with, where the loss asks for an angular head.
        loss: What is minimized, one of `recipes.LOSSES`.
        optim: How it is minimized, one of `recipes.OPTIMIZERS`.
        mesh: How the devices are arranged.
        guard: What happens when training goes wrong.
    """

    steps: Duration = 1000
    batch_size: int = number(128, 1)
    eval_batch_size: int = number(500, 1)
    accumulate: int = number(1, 1)
    seed: int = number(0, 0)
    log_every: Duration = 50
    log_geometry: bool = False
    eval_every: Duration = 500
    evaluators: Evaluations = ()
    checkpoint_every: Duration = 500
    keep: int = number(2, 1)
    keep_best: int = number(1, 0)
    patience: int = number(0, 0)
    init_from: str = ""
    init_fresh: tuple[str, ...] = ("head.*",)
    max_steps_per_call: int = number(100, 1)
    profile: tuple[int, ...] = ()
    wandb: str = ""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = recipe("model")
    head: HeadConfig = dataclasses.field(default_factory=HeadConfig)
    loss: LossConfig = recipe("loss")
    optim: OptimConfig = recipe("optim")
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)

    def __setattr__(self, field: str, value: Any) -> None:
        if field == "evaluators":
            value = tuple(map(Evaluation.of, value))
        super().__setattr__(field, value)
