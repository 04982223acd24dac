"""What a run is made of: typed dataclasses."""

import dataclasses

from hypersphere.training._durations import Duration


@dataclasses.dataclass(slots=True, kw_only=True)
class DataConfig:
    """Which images, and what happens to them.

    Args:
        source: `mnist5k`, `tfds:NAME`, `folder:PATH`, `tar:PATH`, `idx:PATH`,
            `cifar:PATH` or `synthetic:HxWxC,classes=K,examples=N`.
        data_dir: Where TensorFlow Datasets keeps its sets; empty for its own default.
        image_size: Pixels that images are resized to, square; 0 leaves them.
        test_fraction: Share of a folder without its own test part, in (0, 1).
        stream: Whether images are decoded while training, each by a random crop of
            its own, as `tfds:`, `folder:` and `tar:` allow; else the whole set lies on
            the device.
        min_crop: Smallest share of a streamed image's area that a crop keeps, (0, 1].
        crop_fraction: Share of a streamed test image's shorter side that is kept.
        threads: Threads that decode streamed images; 0 for one per core, at most 16.
        workers: Processes that decode streamed images; 0 for threads alone.
        max_bad: Share of streamed images that may turn out unreadable, in [0, 1]; each
            process counts those it has met.
        flip: Whether training images are mirrored at random, left to right.
        pad: Pixels that training images are shifted by at most, at random: a symmetric
            padding and a crop.
        rand_layers: Operations of RandAugment per image; 0 for none.
        rand_magnitude: Their strength, in [0, 10].
        erase: Share of images of which a random rectangle is erased, in [0, 1].
        mixup: Alpha of the Beta distribution by which images are mixed; 0 for not.
        cutmix: The same for rectangles of images. With both, each batch draws one.
        mean: Pixel value that becomes 0.
        std: Pixel values that make 1.
    """

    source: str = "mnist5k"
    data_dir: str = ""
    image_size: int = 0
    test_fraction: float = 0.2
    stream: bool = False
    min_crop: float = 0.08
    crop_fraction: float = 0.875
    threads: int = 0
    workers: int = 0
    max_bad: float = 0.01
    flip: bool = False
    pad: int = 0
    rand_layers: int = 0
    rand_magnitude: float = 9.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    mean: float = 127.5
    std: float = 128.0


@dataclasses.dataclass(slots=True, kw_only=True)
class ModelConfig:
    """The network: one of `hypersphere.models`.

    Args:
        name: `spherenet`, `resnet`, `vgg`, `googlenet` or `decoupled_resnet`.
        depth: Of `spherenet`, the convolutions before the feature layer, a multiple of
            3; of `resnet` 20, 32, 44, 56 or 110 for small images and 18, 34, 50, 101 or
            152 for those of ImageNet; of `vgg` 11, 13, 16 or 19. The others have one
            depth, and this is without effect.
        width: What every number of filters is multiplied by, positive.
        similarity: `cosine`, `linear`, `sigmoid`, `learnable_sigmoid`, or `none` for
            plain convolutions.
        k: Softness of the sigmoid, dimensionless, positive.
        sphere_norm: Whether convolutions have a learned scale and shift per filter.
        magnitude: How the length of a patch counts, which makes decoupled convolutions:
            `sphere`, `linear`, `ball`, `tanh`, `log`, `segment` or `mix`; empty for
            not at all. The published `decoupled_resnet` has `tanh`.
        shortcut: Where a unit of `resnet` changes its shape: `projection` for a plain
            1x1 convolution, `identity` for none.
        pre_activation: Whether units of `resnet` normalize and activate before each
            convolution instead of after it.
        relu: Whether convolutions are followed by a ReLU; in `decoupled_resnet` it has
            a learned slope.
        batch_norm: Whether convolutions are followed by batch normalization.
        norm_features: Whether the feature layer of `spherenet` is too.
        averages: How running averages begin: `flax`, `zero` or `debiased`.
        momentum: Share of the running averages that a step keeps, in [0, 1).
        epsilon: What batch normalization adds to the variance, positive.
        feature_dim: Length of the features of `spherenet`; 0 for the network's own.
        dropout: Share of the features that a training step drops, in [0, 1).
        remat: Whether the backward pass computes each layer again instead of keeping
            what is inside it.
        dtype: What to compute in: `float32` or `bfloat16`. Parameters are float32.
    """

    name: str = "spherenet"
    depth: int = 9
    width: float = 1.0
    similarity: str = "cosine"
    k: float = 0.3
    sphere_norm: bool = False
    magnitude: str = ""
    shortcut: str = "projection"
    pre_activation: bool = False
    relu: bool = True
    batch_norm: bool = True
    norm_features: bool = False
    averages: str = "flax"
    momentum: float = 0.99
    epsilon: float = 1e-5
    feature_dim: int = 0
    dropout: float = 0.0
    remat: bool = False
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

    Patterns are globs on a parameter's path, such as `head.*` or `*.conv.kernel`; a
    star spans dots.

    Args:
        name: `adam`, `adamw`, `sgd`, `lion`, `lamb` or `muon`.
        learning_rate: The highest, positive.
        momentum: Of SGD, in [0, 1).
        nesterov: Whether SGD's momentum looks ahead.
        schedule: `constant`, `piecewise`, `cosine`, `polynomial` or `trapezoid`.
        boundaries: When `piecewise` multiplies by `factor`.
        factor: What `piecewise` multiplies by, positive.
        power: The exponent of `polynomial`, positive.
        cooldown: How long `trapezoid` falls at the end.
        final: Share of the rate at which `cosine`, `polynomial` and `trapezoid` end.
        warmup: How long the rate first rises from zero.
        rates: Rates of chosen parameters, `PATTERN: SHARE` or `PATTERN: SHARE
            SCHEDULE`, such as `head.*: 10` or `stages.*: 0.1 constant`; the first
            pattern that fits counts.
        frozen: Patterns of parameters that stay as they are.
        weight_decay: Decoupled, times the learning rate; at least 0.
        decay: Patterns of what decays; empty for all kernels but spherical ones.
        clip_norm: Longest gradient, all parameters together; 0 for any.
        unit_norm_every: Updates after which spherical filters are brought back to unit
            length; 0 for never.
        ema: Share of the averaged weights that a step keeps, in [0, 1); 0 for none.
        orthogonality: Weight of the orthogonality penalty on spherical filters.
        l2: Weight of the sum of squares of plain kernels, the head, and the scales and
            biases of batch normalization.
    """

    name: str = "adam"
    learning_rate: float = 1e-3
    momentum: float = 0.9
    nesterov: bool = False
    schedule: str = "constant"
    boundaries: tuple[Duration, ...] = ()
    factor: float = 0.1
    power: float = 1.0
    cooldown: Duration = "20%"
    final: float = 0.0
    warmup: Duration = 0
    rates: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    weight_decay: float = 0.0
    decay: tuple[str, ...] = ()
    clip_norm: float = 0.0
    unit_norm_every: int = 0
    ema: float = 0.0
    orthogonality: float = 1e-4
    l2: float = 0.0


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

    data: int = -1
    fsdp: int = 1
    model: int = 1
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

    max_skipped: int = 0
    spike: float = 0.0
    window: int = 100
    max_rewinds: int = 3
    full_disk: str = "stop"


@dataclasses.dataclass(slots=True, kw_only=True)
class TrainConfig:
    """A whole run.

    A duration is a number of steps, or a text with a unit: `"5 epochs"`, `"10000
    examples"`, or `"2.5%"` of the run.

    Args:
        steps: How long to train; any duration but a percentage.
        batch_size: Images per step.
        eval_batch_size: Images per step of an evaluation; no effect on its result,
            but on that of `@batch`.
        accumulate: Parts of a batch that are computed one after the other, to save
            memory. Batch normalization sees the parts.
        seed: Of everything that is drawn, at least 0.
        log_every: Duration between lines of the training log.
        eval_every: Duration between evaluations on the test images.
        evaluators: Further evaluations, `NAME every DURATION`, where NAME is `train`
            (training images as they are, as many as there are test images), `test`, or
            a data source, of which the test part is taken: `folder:sketches every 5
            epochs`. `NAME of 1000` takes so many images, evenly spaced. `NAME@batch`
            normalizes with the statistics of the batch at hand instead of running
            averages; `NAME@debiased` divides averages that started at zero by how full
            they are.
        checkpoint_every: Duration between checkpoints.
        keep: Checkpoints that are kept, the newest ones.
        keep_best: Checkpoints that are kept besides, those of the best test accuracy,
            or of the lowest test loss where there is no accuracy.
        patience: Evaluations without a better one after which training ends; 0 for
            never.
        init_from: Folder of a run to start from; empty for fresh parameters.
        init_fresh: Patterns of parameters that start afresh all the same.
        max_steps_per_call: Steps that one call of the compiled program makes at most,
            on GPU and TPU; on a CPU it is always one.
        profile: First and last step of which a profile is written; empty for none.
        wandb: Project of Weights & Biases to log to as well; empty for none.
        data: Which images.
        model: Which network.
        loss: What is minimized.
        optim: How it is minimized.
        mesh: How the devices are arranged.
        guard: What happens when training goes wrong.
    """

    steps: Duration = 1000
    batch_size: int = 128
    eval_batch_size: int = 500
    accumulate: int = 1
    seed: int = 0
    log_every: Duration = 50
    eval_every: Duration = 500
    evaluators: tuple[str, ...] = ()
    checkpoint_every: Duration = 500
    keep: int = 2
    keep_best: int = 1
    patience: int = 0
    init_from: str = ""
    init_fresh: tuple[str, ...] = ("head.*",)
    max_steps_per_call: int = 100
    profile: tuple[int, ...] = ()
    wandb: str = ""
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    mesh: MeshConfig = dataclasses.field(default_factory=MeshConfig)
    guard: GuardConfig = dataclasses.field(default_factory=GuardConfig)
