"""The state of a run and the pure functions that change and judge it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from hypersphere import data
from hypersphere.training._build import LossFunction, class_scores, penalty
from hypersphere.training._config import TrainConfig

Metrics = dict[str, jax.Array]


class TrainState(NamedTuple):
    """All that training changes; what a checkpoint holds.

    The position in the data and every random key are functions of `step`.
    """

    step: jax.Array
    params: Any
    stats: Any
    optimizer: Any


class Program(NamedTuple):
    """The compiled functions of a run, over one model and one image set.

    Args:
        init: () -> the state at step zero.
        train: (state, images, labels, indices of shape (steps, batch)) -> the state
            after these steps, and metrics of shape (steps,). The state is donated.
        evaluate: (state, images, labels, indices (batch,), weights (batch,)) -> sums.
        features: (state, images, indices (batch,)) -> what the head sees.
        model: state -> the model in evaluation mode.
    """

    init: Callable[[], TrainState]
    train: Callable[..., tuple[TrainState, Metrics]]
    evaluate: Callable[..., Metrics]
    features: Callable[..., jax.Array]
    model: Callable[[TrainState], Any]


def make_program(
    make_model: Callable[[], nnx.Module],
    loss: LossFunction,
    optimizer: optax.GradientTransformation,
    config: TrainConfig,
) -> Program:
    """Splits a model once, by type, and builds the functions that train it."""
    graph, _, _, rest = nnx.split(
        nnx.eval_shape(make_model), nnx.Param, nnx.BatchStat, ...
    )
    if jax.tree.leaves(rest):
        raise TypeError(
            "The training program needs models whose variables are all `nnx.Param` or "
            f"`nnx.BatchStat`, got others at {list(nnx.to_flat_state(rest).paths)}."
        )

    def init() -> TrainState:
        _, params, stats, _ = nnx.split(make_model(), nnx.Param, nnx.BatchStat, ...)
        pure = nnx.to_pure_dict(params)
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=pure,
            stats=nnx.to_pure_dict(stats),
            optimizer=optimizer.init(pure),
        )

    def merge(params: Any, stats: Any, *, train: bool) -> Any:
        model = nnx.merge(graph, params, stats, {})
        model.train() if train else model.eval()
        return model

    def prepare(images: jax.Array) -> jax.Array:
        return data.normalize(images, mean=config.data.mean, std=config.data.std)

    def train_step(
        state: TrainState, images: jax.Array, labels: jax.Array, indices: jax.Array
    ) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(jax.random.key(config.seed), state.step)
        batch = data.augment(
            key, images[indices], flip=config.data.flip, pad=config.data.pad
        )
        answers = labels[indices]

        def objective(params: Any) -> tuple[jax.Array, Any]:
            model = merge(params, state.stats, train=True)
            outputs = model(prepare(batch))
            mean_loss = jnp.mean(loss(outputs, answers, state.step))
            stats = nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))
            total = mean_loss + penalty(model, config.optim)
            return total, (mean_loss, stats, class_scores(outputs))

        grads, (mean_loss, stats, scores) = jax.grad(objective, has_aux=True)(
            state.params
        )
        updates, opt_state = optimizer.update(grads, state.optimizer, state.params)
        params = optax.apply_updates(state.params, updates)
        metrics = {
            "loss": mean_loss,
            "accuracy": jnp.mean(jnp.argmax(scores, -1) == answers),
            "grad_norm": optax.tree.norm(grads),
        }
        return TrainState(state.step + 1, params, stats, opt_state), metrics

    def train(
        state: TrainState, images: jax.Array, labels: jax.Array, indices: jax.Array
    ) -> tuple[TrainState, Metrics]:
        if len(indices) == 1:  # XLA's CPU convolutions are slow inside a loop
            state, metrics = train_step(state, images, labels, indices[0])
            return state, jax.tree.map(lambda value: value[None], metrics)
        return jax.lax.scan(
            lambda carry, chosen: train_step(carry, images, labels, chosen),
            state,
            indices,
        )

    def evaluate(
        state: TrainState,
        images: jax.Array,
        labels: jax.Array,
        indices: jax.Array,
        weights: jax.Array,
    ) -> Metrics:
        outputs = merge(state.params, state.stats, train=False)(
            prepare(images[indices])
        )
        answers = labels[indices]
        is_right = jnp.argmax(class_scores(outputs), -1) == answers
        return {
            "loss": jnp.sum(weights * loss(outputs, answers, state.step)),
            "accuracy": jnp.sum(weights * is_right),
        }

    def features(state: TrainState, images: jax.Array, indices: jax.Array) -> jax.Array:
        model = merge(state.params, state.stats, train=False)
        return model.features(prepare(images[indices]))

    return Program(
        init=jax.jit(init),
        train=jax.jit(train, donate_argnums=0),
        evaluate=jax.jit(evaluate),
        features=jax.jit(features),
        model=lambda state: merge(state.params, state.stats, train=False),
    )


def evaluate_all(
    program: Program, state: TrainState, split: data.ImageSet, batch_size: int
) -> dict[str, float]:
    """Mean loss and accuracy over a whole set, every example counted once."""
    size = len(split.labels)
    sums = [
        program.evaluate(state, *split, indices, weights)
        for indices, weights in data.eval_batches(size, min(batch_size, size))
    ]
    total = jax.tree.map(lambda *parts: float(sum(map(float, parts))) / size, *sums)
    return total


def features_of(
    program: Program, state: TrainState, split: data.ImageSet, batch_size: int
) -> jax.Array:
    """What the head sees of every example, shape (examples, features)."""
    size = len(split.labels)
    parts = []
    for indices, weights in data.eval_batches(size, min(batch_size, size)):
        parts.append(program.features(state, split.images, indices)[weights > 0])
    return jnp.concatenate(parts)
