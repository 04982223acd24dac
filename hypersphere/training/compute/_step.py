"""What one step of training, and of an evaluation, computes: pure functions."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from hypersphere import data, models, nn
from hypersphere._average import fullness
from hypersphere._dtypes import common
from hypersphere._select import dotted
from hypersphere.training.compute import _head, _moments
from hypersphere.training.compute._average import moving_average
from hypersphere.training.compute._frozen import hold_still, still_layers
from hypersphere.training.compute._geometry import back_on_spheres, geometry
from hypersphere.training.compute._loss import KEPT, Loss
from hypersphere.training.compute._parts import Whole, call_model, has_features, named
from hypersphere.training.compute._penalty import penalty
from hypersphere.training.machine import _mesh
from hypersphere.training.settings._config import TrainConfig

Metrics = dict[str, jax.Array]

# Keys that `data.augment`, which has the first ones, leaves.
_MIX, _DROPOUT, _SAMPLE = 10, 11, 12


class TrainState(NamedTuple):
    """All that training changes; what a checkpoint holds.

    Attributes:
        step: Updates so far, int32.
        position: Which batch comes next, int32. It is ahead of `step` where a rewind
            has passed over batches. All random keys are functions of it.
        skipped: Updates that were left out, int32.
        params: The parameters.
        stats: The running averages of batch normalization, and other variables that
            are no parameters.
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
    labels: Any
    others: Any
    shares: jax.Array


class Task:
    """A model, split once by type, with what it is trained for.

    Args:
        parts: All of a run's parts.
        config: The run, its durations in steps.
        mesh: The devices.

    Attributes:
        has_features: Whether the model has what `features` gives.
        has_batch_norm: Whether it has an `nnx.BatchNorm`.

    Raises:
        ValueError: If the model has a part with the name that the loss goes by.
    """

    def __init__(self, parts: Whole, config: TrainConfig, mesh: Mesh):
        self._parts, self.config, self.mesh = parts, config, mesh
        abstract = nnx.eval_shape(parts.make_model)
        self.has_features = has_features(abstract)
        self.has_batch_norm = bool(_moments.batch_norms(abstract))
        self._graph, params, _, streams = nnx.split(abstract, nnx.Param, KEPT, ...)
        self._streams = nnx.to_pure_dict(streams)
        self._directions = frozenset(nn.directions(abstract))
        self._still = still_layers(abstract, config.optim.still())
        self._loss = Loss(parts.loss)
        self._head = getattr(abstract, "head", None)
        self._sampler = _head.sampler(self._head, config, parts.optimizer)
        params = self._loss.beside(nnx.to_pure_dict(params), self._loss.params)
        self._used = _mesh.shardings_in_use(params, mesh, config.mesh.rules)

    def init(self) -> TrainState:
        """The state at step zero."""
        model = self._parts.make_model()
        _, params, stats, _ = nnx.split(model, nnx.Param, KEPT, ...)
        params = self._loss.beside(nnx.to_pure_dict(params), self._loss.params)
        stats = self._loss.beside(nnx.to_pure_dict(stats), self._loss.stats)
        copies = jax.tree.map(jnp.copy, {"params": params, "stats": stats})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            position=jnp.zeros((), jnp.int32),
            skipped=jnp.zeros((), jnp.int32),
            params=params,
            stats=stats,
            optimizer=self._parts.optimizer.init(params),
            average=copies if self.config.optim.ema else (),
        )

    def model(self, state: TrainState) -> Any:
        """The model of a state in evaluation mode, with the averaged weights if any."""
        return self._merge(*self.judged(state))

    def judged(self, state: TrainState) -> tuple[Any, Any]:
        """Parameters and variables to evaluate: averaged ones if there are any."""
        if not state.average:
            return state.params, state.stats
        params, stats = state.average["params"], state.average["stats"]
        return back_on_spheres(params, state.params, paths=self._directions), stats

    def update(
        self, state: TrainState, images: jax.Array, labels: Any
    ) -> tuple[TrainState, Metrics]:
        """One step of training on a batch of uint8 images and integer labels."""
        config = self.config
        key = jax.random.fold_in(jax.random.key(config.seed), state.position)
        batch = self._prepared(key, images, labels)
        before, memory, chosen = state.params, state.optimizer, None
        if self._sampler is not None:
            chosen = self._sampler(
                jax.random.fold_in(key, _SAMPLE), state.params, batch.labels
            )
            before, memory = chosen.take(state)
            labels, others = chosen.places(batch.labels), chosen.places(batch.others)
            batch = batch._replace(labels=labels, others=others)
        gradients, stats, metrics = self._accumulated(
            state._replace(params=before), batch, key
        )
        updates, memory = self._parts.optimizer.update(gradients, memory, before)
        params = optax.apply_updates(before, updates)
        if chosen is not None:
            memory, params = chosen.put(state, memory, params)
        metrics |= {
            "grad_norm": optax.tree.norm(gradients),
            "param_norm": optax.tree.norm(params),
        }
        if config.log_geometry:
            metrics |= geometry(before, gradients, updates, params)
        if self._parts.schedule is not None:
            rate = self._parts.schedule(state.step - state.skipped)
            metrics["learning_rate"] = jnp.asarray(rate, jnp.float32)
        average = state.average
        if average:
            average = moving_average(
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

    def padded(self, template: TrainState) -> dict[str, int]:
        """Paths of class centres, and what mirrors them -> how many there are."""
        return _head.padded(self._head, template)

    def judge(
        self,
        state: TrainState,
        images: jax.Array,
        labels: Any,
        weights: jax.Array,
        *,
        statistics: str = "running",
    ) -> Metrics:
        """Weighted sums over a batch: of the loss and all that is told with it.

        Args:
            state: What is judged.
            images: uint8 of shape (batch, height, width, channels).
            labels: Integers of shape (batch,).
            weights: Of each example, float32 of shape (batch,).
            statistics: Of `Evaluation.statistics`, what batch normalization uses.
        """
        model = self._used_model(state)
        if statistics == "debiased":
            updates = (state.step - state.skipped) * self.config.accumulate
            _debias(model, updates)
        if statistics == "batch":
            model.set_attributes(use_running_average=False, raise_if_not_found=False)
        outputs = call_model(model, self._normalized(images))
        loss = self._loss.merged(*self.judged(state), train=False)
        found = named(loss(outputs, labels, state.step))
        found |= self._parts.evaluate(outputs, labels)
        sums = {name: jnp.sum(weights * value) for name, value in found.items()}
        return sums | {"examples": jnp.sum(weights)}

    def moments(self, state: TrainState, images: jax.Array) -> list[jax.Array]:
        """`_moments.moments` of what is judged."""
        return _moments.moments(self._used_model(state), self._normalized(images))

    def recalibrated(self, state: TrainState, means: list[jax.Array]) -> TrainState:
        """The state with these means over batches in place of running averages."""
        params, stats = self.judged(state)
        model = self._merge(params, stats)
        _moments.put_moments(model, means)
        stats = stats | nnx.to_pure_dict(nnx.state(model, KEPT))
        return state._replace(params=params, stats=stats, average=())

    def features(self, state: TrainState, images: jax.Array) -> jax.Array:
        """What the head sees of a batch."""
        return self._used_model(state).features(self._normalized(images))

    def _used_model(self, state: TrainState) -> Any:
        params, stats = self.judged(state)
        return self._merge(self._gathered(params), stats)

    def _gathered(self, params: Any) -> Any:
        """Parameters as they lie while they are used."""
        return jax.lax.with_sharding_constraint(params, self._used)

    def _merge(self, params: Any, stats: Any, key: jax.Array | None = None) -> Any:
        """The model; in training mode with a key, of which its streams begin."""
        streams = _streams(self._streams, jax.random.key(0) if key is None else key)
        parts = (self._loss.without(part) for part in (params, stats))
        model = nnx.merge(self._graph, *parts, streams)
        model.eval() if key is None else model.train()
        hold_still(model, self._still)
        return model

    def _stats(self, model: Any, loss: Any, before: Any) -> Any:
        """The variables as a step has left them."""
        found = nnx.to_pure_dict(nnx.state(model, KEPT))
        after = self._loss.beside(found, self._loss.stats_of(loss))
        if changed := _kinds(after) ^ _kinds(before):
            raise ValueError(
                "The training program needs models that have their variables from the "
                "beginning; while it was called, this one made, dropped or changed "
                f"{', '.join(sorted(changed))}. Make them in `make_model` as they stay."
            )
        return after

    def _normalized(self, images: jax.Array) -> jax.Array:
        if images.dtype != jnp.uint8:  # no images: taken as they are
            return images
        config = self.config.data
        return data.normalize(images, mean=config.mean, std=config.std)

    def _prepared(self, key: jax.Array, images: jax.Array, labels: Any) -> Batch:
        """Augments, normalizes and mixes a whole batch."""
        config = self.config.data
        if images.dtype == jnp.uint8:
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
            return Batch(images, labels, labels, jnp.ones(len(images)))
        mixed = data.mix(
            jax.random.fold_in(key, _MIX),
            images,
            mixup=config.mixup,
            cutmix=config.cutmix,
        )
        others = jax.tree.map(lambda x: x[mixed.partner], labels)
        return Batch(mixed.images, labels, others, mixed.share)

    def _objective(
        self, params: Any, stats: Any, batch: Batch, key: jax.Array, step: jax.Array
    ) -> tuple[jax.Array, tuple[Any, Metrics]]:
        params = self._gathered(params)
        model = self._merge(params, stats, key)
        if self._sampler is not None:  # there are few
            model.set_attributes(nn.AngularHead, chunk=0)
        loss = self._loss.merged(params, stats, train=True)
        outputs = call_model(model, batch.images, _rngs(key))
        found = named(loss(outputs, batch.labels, step))
        if self.config.data.mixup or self.config.data.cutmix:
            others = named(loss(outputs, batch.others, step))
            for name, other in others.items():
                share = batch.shares if jnp.shape(other) else jnp.mean(batch.shares)
                found[name] = share * found[name] + (1 - share) * other
        if self.config.head.level == "full":  # else it would cost as much as the loss
            found |= self._parts.evaluate(outputs, batch.labels)
        metrics = {name: jnp.mean(value) for name, value in found.items()}
        total = metrics["loss"] + penalty(model, self.config.optim)
        return total, (self._stats(model, loss, stats), metrics)

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
        zeros = jax.tree.map(  # sums of half precision would lose the later parts
            lambda x: jnp.zeros(x.shape, common(x.dtype, jnp.float32)),
            shapes,
        )
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


def _rngs(key: jax.Array) -> nnx.Rngs:
    return nnx.Rngs(default=jax.random.fold_in(key, 0), dropout=key)


def _kinds(tree: Any) -> set[str]:
    """Every variable by its path, with its dtype and shape."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {
        f"{dotted(_mesh.names(keys))} {jnp.result_type(x)}{list(jnp.shape(x))}"
        for keys, x in leaves
    }


def _streams(template: Any, key: jax.Array) -> Any:
    """The state of all random streams: keys of their own, and counts of zero."""

    def begun(index: int, leaf: Any) -> jax.Array:
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jnp.zeros(leaf.shape, leaf.dtype)
        one = jax.random.fold_in(key, index)
        return jax.random.split(one, leaf.shape) if leaf.shape else one

    leaves, structure = jax.tree.flatten(template)
    return structure.unflatten(begun(i, leaf) for i, leaf in enumerate(leaves))


def _debias(model: nnx.Module, updates: jax.Array) -> None:
    """Divides running averages that started at zero by how full they are."""
    for _, module in nnx.iter_modules(model):
        if isinstance(module, models.BatchNorm) and module.averages == "zero":
            full = fullness(updates, module.momentum)
            module.mean[...] /= full
            module.var[...] /= full


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


# The metrics of a step, in the order of the table that a call returns; others follow.
METRICS = ("loss", "accuracy", "grad_norm", "param_norm", "learning_rate", "skipped")

# What must be finite, by the name of its metric.
WATCHED = {"loss": "loss", "grad_norm": "gradient", "param_norm": "parameters"}
