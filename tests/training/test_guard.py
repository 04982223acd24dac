import numpy as np
import pytest

from hypersphere import training
from hypersphere.training.run._guard import Guard, SpikeError


def metrics(losses, grad=None, param=None, skipped=None):
    losses = np.asarray(losses, np.float32)
    one = np.ones_like(losses)
    return {
        "loss": losses,
        "grad_norm": one if grad is None else np.asarray(grad, np.float32),
        "param_norm": one if param is None else np.asarray(param, np.float32),
        "skipped": np.zeros(len(losses), int) if skipped is None else skipped,
    }


def guard(losses=(), **fields):
    return Guard(training.GuardConfig(**fields), list(losses))


def test_finite_numbers_pass():
    guard().check(1, metrics([1.0, 2.0, 3.0]))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (metrics([1, np.nan, 1]), r"loss was not finite at step 6 \(in steps 5 to 7\)"),
        (metrics([1, 1], grad=[1, np.inf]), r"gradient was not finite at step 6"),
        (metrics([1, 1], param=[np.nan, 1]), r"parameters were not finite at step 5"),
    ],
)
def test_what_is_not_finite_is_named_with_its_window(wrong, message):
    with pytest.raises(training.DivergedError, match=message):
        guard().check(5, wrong)


def test_some_steps_may_be_left_out_and_one_more_ends_the_run():
    patient = guard(max_skipped=2)
    patient.check(1, metrics([np.nan, 1, np.nan], skipped=[1, 1, 2]))
    with pytest.raises(training.DivergedError, match=r"step 5.*after 2 other steps"):
        patient.check(4, metrics([1, np.nan], skipped=[2, 3]))


def test_a_spike_is_a_loss_far_above_the_latest_ones():
    watch = guard(spike=4.0, window=4)
    watch.check(1, metrics([1.0, 1.2, 0.8, 1.0, 1.3]))
    with pytest.raises(SpikeError, match=r"loss of step 7 is 9") as spike:
        watch.check(6, metrics([1.1, 9.0, 1.0]))
    assert spike.value.step == 7
    assert list(watch.losses) == pytest.approx([0.8, 1.0, 1.3, 1.1])


def test_nothing_is_a_spike_before_the_window_is_full():
    guard(spike=1.0, window=5).check(1, metrics([1.0, 50.0, 1.0, 90.0]))


def test_the_losses_of_an_earlier_process_count():
    with pytest.raises(SpikeError):
        guard([1.0, 1.1, 0.9], spike=3.0, window=3).check(1, metrics([5.0]))
