import jax

from tests.training.small import config_of, fresh, set_up


def still(**changes):
    """Which layers of a tiny network use their running averages in training."""
    setup = set_up(config_of({f"optim.{name}": x for name, x in changes.items()}))
    state = fresh(setup)
    model = setup.program.task._merge(state.params, state.stats, jax.random.key(0))
    return [
        stage.norm.use_running_average for blocks in model.stages for stage in blocks
    ]


def test_the_averages_of_frozen_layers_stand_still_and_are_used():
    assert still(frozen=("stages.0.*",)) == [True, False, False]
    assert still(frozen=("stages.0.*.conv.*", "stages.1.*.norm.*")) == [
        *(False, True, False)
    ]
    assert not any(still(frozen=("stages.*",), freeze_averages=False))
