"""What one step of training, and of an evaluation, computes: pure functions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from hypersphere import data, models
from hypersphere._average import fullness
from hypersphere.training import _mesh, _optim
from hypersphere.training._build import LossFunction, class_scores
from hypersphere.training._config import TrainConfig

Metrics = dict[str, jax.Array]

_MIX, _DROPOUT = 10, 11  # keys that `data.augment`, which has the first ones, leaves


class TrainState(NamedTuple):
    """All that training changes; what a checkpoint holds.

    Attributes:
        step: Updates so far, int32.
        position: Which batch comes next, int32. It is ahead of `step` where a rewind
            has passed over batches. All random keys are functions of it.
        skipped: Updates that were left out, int32.
        params: The parameters.
        stats: The running averages of batch normalization.
        optimizer: What the optimizer remembers.
        average: Averaged `params` and `stats`, or () without an average.
    """

    step: jax.Array
    position: jax.Array
    skipped: jax.Array
    params: Any
    stats: Any
    optimizer: Any
    average: Any


class Batch(NamedTuple):
    """Prepared examples: float images, and two labels with the share of the first."""

    images: jax.Array
    labels: jax.Array
    others: jax.Array
    shares: jax.Array


class Task:
    """A model, split once by type, with what it is trained for.

    Args:
        make_model: () -> the model.
        loss: (what the model returned, labels, step) -> one loss per example.
        optimizer: What changes the parameters.
        schedule: The learning rate of each step, to be told.
        config: The run, its durations in steps.
        mesh: The devices.

    Raises:
        TypeError: If the model has variables besides parameters and running averages.
    """

    def __init__(
        self,
        make_model: Callable[[], nnx.Module],
        loss: LossFunction,
        optimizer: optax.GradientTransformation,
        schedule: optax.Schedule,
        config: TrainConfig,
        mesh: Mesh,
    ):
        self._make_model, self._loss = make_model, loss
        self._optimizer, self._schedule = optimizer, schedule
        self.config, self.mesh = config, mesh
        self._graph, params, _, rest = nnx.split(
            nnx.eval_shape(make_model), nnx.Param, nnx.BatchStat, ...
        )
        if jax.tree.leaves(rest):
            raise TypeError(
                "The training program needs models whose variables are all `nnx.Param` "
                "or `nnx.BatchStat`, got others at "
                f"{list(nnx.to_flat_state(rest).paths)}."
            )
        self._used = _mesh.shardings_in_use(
            nnx.to_pure_dict(params), mesh, config.mesh.rules
        )

    def init(self) -> TrainState:
        """The state at step zero."""
        model = self._make_model()
        _, params, stats, _ = nnx.split(model, nnx.Param, nnx.BatchStat, ...)
        params, stats = nnx.to_pure_dict(params), nnx.to_pure_dict(stats)
        copies = jax.tree.map(jnp.copy, {"params": params, "stats": stats})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            position=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            params=params,
            stats=stats,
            optimizer=self._optimizer.init(params),
            average=copies if self.config.optim.ema else (),
        )

    def model(self, state: TrainState) -> Any:
        """The model of a state in evaluation mode, with the averaged weights if any."""
        return self._merge(*_judged(state), train=False)

    def update(
        self, state: TrainState, images: jax.Array, labels: jax.Array
    ) -> tuple[TrainState, Metrics]:
        """One step of training on a batch of uint8 images and integer labels."""
        config = self.config
        key = jax.random.fold_in(jax.random.key(config.seed), state.position)
        batch = self._prepared(key, images, labels)
        gradients, stats, metrics = self._accumulated(state, batch, key)
        updates, memory = self._optimizer.update(
            gradients, state.optimizer, state.params
        )
        params = optax.apply_updates(state.params, updates)
        metrics |= {
            "grad_norm": optax.tree.norm(gradients),
            "param_norm": optax.tree.norm(params),
            "learning_rate": jnp.asarray(
                self._schedule(state.step - state.skipped), jnp.float32
            ),
        }
        average = state.average
        if average:
            average = _optim.average(
                average,
                {"params": params, "stats": stats},
                state.step,
                decay=config.optim.ema,
            )
        new = state._replace(
            params=params, stats=stats, optimizer=memory, average=average
        )
        if config.guard.max_skipped:
            new = _kept_where_finite(state, new, metrics)
        metrics["skipped"] = new.skipped
        counted = new._replace(step=state.step + 1, position=state.position + 1)
        return counted, metrics

    def judge(
        self,
        state: TrainState,
        images: jax.Array,
        labels: jax.Array,
        weights: jax.Array,
        *,
        statistics: str = "running",
    ) -> Metrics:
        """Weighted sums of loss and correct answers over a batch.

        Args:
            state: What is judged.
            images: uint8 of shape (batch, height, width, channels).
            labels: Integers of shape (batch,).
            weights: Of each example, float32 of shape (batch,).
            statistics: Which of `_evaluators.STATISTICS` batch normalization uses.
        """
        model = self._used_model(state)
        if statistics == "debiased":
            updates = (state.step - state.skipped) * self.config.accumulate
            _debias(model, updates)
        if statistics == "batch":
            model.set_attributes(use_running_average=False, raise_if_not_found=False)
        outputs = model(self._normalized(images))
        is_right = jnp.argmax(class_scores(outputs), -1) == labels
        return {
            "loss": jnp.sum(weights * self._loss(outputs, labels, state.step)),
            "accuracy": jnp.sum(weights * is_right),
            "examples": jnp.sum(weights),
        }

    def features(self, state: TrainState, images: jax.Array) -> jax.Array:
        """What the head sees of a batch."""
        return self._used_model(state).features(self._normalized(images))

    def _used_model(self, state: TrainState) -> Any:
        params, stats = _judged(state)
        return self._merge(self._gathered(params), stats, train=False)

    def _gathered(self, params: Any) -> Any:
        """Parameters as they lie while they are used."""
        return jax.lax.with_sharding_constraint(params, self._used)

    def _merge(self, params: Any, stats: Any, *, train: bool) -> Any:
        model = nnx.merge(self._graph, params, stats, {})
        model.train() if train else model.eval()
        return model

    def _normalized(self, images: jax.Array) -> jax.Array:
        config = self.config.data
        return data.normalize(images, mean=config.mean, std=config.std)

    def _prepared(self, key: jax.Array, images: jax.Array, labels: jax.Array) -> Batch:
        """Augments, normalizes and mixes a whole batch."""
        config = self.config.data
        images = data.augment(
            key,
            images,
            flip=config.flip,
            pad=config.pad,
            rand_layers=config.rand_layers,
            rand_magnitude=config.rand_magnitude,
            erase_probability=config.erase,
        )
        images = self._normalized(images)
        if not (config.mixup or config.cutmix):
            return Batch(images, labels, labels, jnp.ones(len(labels)))
        mixed = data.mix(
            jax.random.fold_in(key, _MIX),
            images,
            mixup=config.mixup,
            cutmix=config.cutmix,
        )
        return Batch(mixed.images, labels, labels[mixed.partner], mixed.share)

    def _objective(
        self, params: Any, stats: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[Any, Metrics]]:
        model = self._merge(self._gathered(params), stats, train=True)
        outputs = model(batch.images, rngs=nnx.Rngs(dropout=key))
        losses = self._loss(outputs, batch.labels, step)
        if self.config.data.mixup or self.config.data.cutmix:
            others = self._loss(outputs, batch.others, step)
            losses = batch.shares * losses + (1 - batch.shares) * others
        mean_loss = jnp.mean(losses)
        is_right = jnp.argmax(class_scores(outputs), -1) == batch.labels
        metrics = {"loss": mean_loss, "accuracy": jnp.mean(is_right)}
        stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
        total = mean_loss + _optim.penalty(model, self.config.optim)
        return total, (stats, metrics)

    def _accumulated(
        self, state: TrainState, batch: Batch, key: jax.Array
    ) -> tuple[Any, Any, Metrics]:
        """Gradients and metrics, means over the parts of a batch."""
        count = self.config.accumulate
        gradient = jax.grad(self._objective, has_aux=True)
        dropout = jax.random.fold_in(key, _DROPOUT)

        def one(stats: Any, index: Any, part: Batch) -> Any:
            of_part = jax.random.fold_in(dropout, index)
            gradients, (stats, metrics) = gradient(
                state.params, stats, part, of_part, state.step
            )
            return stats, (gradients, metrics)

        if count == 1:
            stats, (gradients, metrics) = one(state.stats, 0, batch)
            return gradients, stats, metrics

        def add(carry: Any, inputs: Any) -> tuple[Any, None]:
            stats, total = carry
            stats, answer = one(stats, *inputs)
            return (stats, jax.tree.map(jnp.add, total, answer)), None

        parts = jax.tree.map(lambda x: _parts(x, count), batch)
        first = jax.tree.map(lambda x: x[0], parts)
        shapes = jax.eval_shape(one, state.stats, 0, first)[1]
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
        # Convolutions are slow in the loops of a CPU.
        is_cpu = _mesh.platform(self.mesh) == "cpu"
        (stats, total), _ = jax.lax.scan(
            add,
            (state.stats, zeros),
            (jnp.arange(count), parts),
            unroll=count if is_cpu else 1,
        )
        gradients, metrics = jax.tree.map(lambda x: x / count, total)
        return gradients, stats, metrics


def _debias(model: nnx.Module, updates: jax.Array) -> None:
    """Divides running averages that started at zero by how full they are."""
    for _, module in nnx.iter_modules(model):
        if isinstance(module, models.BatchNorm) and module.averages == "zero":
            full = fullness(updates, module.momentum)
            module.mean[...] /= full
            module.var[...] /= full


def _judged(state: TrainState) -> tuple[Any, Any]:
    """What is evaluated: the averaged weights if there are any."""
    averaged = state.average
    if averaged:
        return averaged["params"], averaged["stats"]
    return state.params, state.stats


def _parts(x: jax.Array, count: int) -> jax.Array:
    """Example i into part i % count, so that every device has some of each part."""
    return jnp.moveaxis(x.reshape(-1, count, *x.shape[1:]), 1, 0)


def _kept_where_finite(
    old: TrainState, new: TrainState, metrics: Metrics
) -> TrainState:
    """The new state, or the old one where something is not finite."""
    is_finite = jnp.all(jnp.stack([jnp.isfinite(metrics[name]) for name in WATCHED]))
    kept = jax.tree.map(lambda a, b: jnp.where(is_finite, a, b), new, old)
    return kept._replace(skipped=old.skipped + ~is_finite)


# The metrics of a step, in the order of the table that a call returns.
METRICS = ("loss", "accuracy", "grad_norm", "param_norm", "learning_rate", "skipped")

# What must be finite, by the name of its metric.
WATCHED = {"loss": "loss", "grad_norm": "gradient", "param_norm": "parameters"}
