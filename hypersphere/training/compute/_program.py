"""The compiled functions of a run."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from hypersphere.training.compute._step import METRICS, Metrics, Task, TrainState
from hypersphere.training.machine import _mesh

Pool = tuple[jax.Array, Any]
"""Images, uint8 of shape (n, height, width, channels), and labels, int32 (n,).

Or what else a `data.Dataset` holds.
"""


class Program:
    """A task, compiled for its devices: one program for one device and for many.

    A batch is either a pool of its own (`order` None), or the part of a pool that
    `order` says.

    Args:
        task: What is computed.

    Attributes:
        task: The same.
        template: The state's shapes, dtypes and places.
        padded: Path of an array whose last axis ends with padding, as a checkpoint
            names it -> how many entries are none.
        init: () -> the state at step zero.
        train: (state, pool, order of shape (steps, batch)) -> the state after these
            steps, and a table of metrics for `by_name`, float32 of shape (steps,
            metrics). The state is donated. What the metrics are is known once it has
            been traced.
        judge: (state, pool, order of shape (batch,), weights, *, statistics) ->
            weighted sums.
        moments: (state, pool, order) -> mean and mean square of what each batch
            normalization gets.
        recalibrated: (state, means of such moments) -> a state to be judged that has
            them in place of running averages.
        features: (state, pool, order) -> what the head sees, on every device.
        everywhere: any arrays -> the same, whole on every device.
    """

    def __init__(self, task: Task):
        self.task = task
        self._names: tuple[str, ...] = ()
        shapes = jax.eval_shape(task.init)
        places = _mesh.state_shardings(shapes, task.mesh, task.config.mesh.rules)
        whole = _mesh.replicated(task.mesh)
        self.template = jax.tree.map(
            lambda leaf, place: jax.ShapeDtypeStruct(
                leaf.shape, leaf.dtype, sharding=place
            ),
            shapes,
            places,
        )
        self.padded = task.padded(self.template)
        under = functools.partial(_mesh.known_to, task.mesh)
        self.init = jax.jit(task.init, out_shardings=places)
        self.train = jax.jit(
            under(self._train), donate_argnums=0, out_shardings=(places, whole)
        )
        self.judge = jax.jit(
            under(self._judge), static_argnames="statistics", out_shardings=whole
        )
        self.moments = jax.jit(under(self._moments), out_shardings=whole)
        self.recalibrated = jax.jit(task.recalibrated)
        self.features = jax.jit(under(self._features), out_shardings=whole)
        self.everywhere = jax.jit(lambda tree: tree, out_shardings=whole)

    def flops(self, state: TrainState, pool: Any, order: Any) -> float:
        """Floating-point operations of one step, as XLA counts them; 0 if unknown.

        Of arrays or of their shapes. What `remat` computes again counts again.
        """
        first = order if order is None or order.shape[0] == 1 else order[:1]
        cost = self.train.lower(state, pool, first).cost_analysis()
        is_loop = _mesh.platform(self.task.mesh) != "cpu"  # whose body counts once
        parts = self.task.config.accumulate if is_loop else 1
        return parts * float((cost or {}).get("flops", 0.0))

    def by_name(self, table: Any) -> dict[str, np.ndarray]:
        """The metrics of steps, each of shape (steps,), from one array for all.

        One, because every array that the host fetches costs it time.
        """
        columns = np.asarray(table).T
        return dict(zip(self._names, columns, strict=True))

    def _train(
        self, state: TrainState, pool: Pool, order: jax.Array | None
    ) -> tuple[TrainState, jax.Array]:
        def step(state: TrainState, chosen: Any) -> tuple[TrainState, jax.Array]:
            state, metrics = self.task.update(state, *self._batch(pool, chosen))
            known = [name for name in METRICS if name in metrics]
            self._names = (*known, *sorted(set(metrics) - set(known)))
            return state, jnp.stack([metrics[name] for name in self._names])

        if order is None or len(order) == 1:  # loops are slow on a CPU
            state, row = step(state, None if order is None else order[0])
            return state, row[None]
        return jax.lax.scan(step, state, order)

    def _judge(
        self,
        state: TrainState,
        pool: Pool,
        order: jax.Array | None,
        weights: jax.Array,
        *,
        statistics: str = "running",
    ) -> Metrics:
        images, labels = self._batch(pool, order)
        return self.task.judge(state, images, labels, weights, statistics=statistics)

    def _moments(
        self, state: TrainState, pool: Pool, order: jax.Array | None
    ) -> list[jax.Array]:
        return self.task.moments(state, self._batch(pool, order)[0])

    def _features(
        self, state: TrainState, pool: Pool, order: jax.Array | None
    ) -> jax.Array:
        return self.task.features(state, self._batch(pool, order)[0])

    def _batch(self, pool: Pool, order: jax.Array | None) -> Pool:
        """The examples that are meant, divided over the devices."""
        batch = pool if order is None else jax.tree.map(lambda x: x[order], pool)
        divided = _mesh.divided(self.task.mesh)
        return jax.lax.with_sharding_constraint(batch, divided)
