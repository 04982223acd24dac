import pytest

from hypersphere.training.run import _meter


class Clock:
    """A clock that is set by hand."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(meter, clock, seconds):
    for each in seconds:
        clock.now += each
        meter.submitted(0.0, 1)


def test_percentiles_are_of_the_times_between_steps():
    clock = Clock()
    meter = _meter.Meter(10, clock=clock)
    run(meter, clock, [1.0] * 4)  # in flight: nothing has ended for sure
    assert meter.window() == {}
    run(meter, clock, [1.0, 2.0, 2.0, 2.0, 5.0])
    window = meter.window()
    assert window["step_ms_p50"] == 2000
    assert window["examples_per_second"] == pytest.approx(5 * 10 / 16, abs=0.05)
    assert meter.window() == {}


def test_a_call_for_many_steps_counts_as_many():
    clock = Clock()
    meter = _meter.Meter(4, clock=clock)
    clock.now = 10.0
    meter.submitted(0.0, 5)
    meter.restart()
    assert meter.window()["step_ms_p50"] == 2000


def test_waiting_for_data_is_a_share_of_the_time():
    clock = Clock()
    meter = _meter.Meter(1, clock=clock)
    for begins in (5.0, 1.0):  # the stream's beginning does not count
        with meter.waiting():
            clock.now += begins
        clock.now += 3.0
        meter.submitted(0.0, 1)
        meter.restart()
        window = meter.window()
    assert window["data_wait"] == 0.25


def test_evaluations_are_not_counted_and_the_first_call_neither():
    clock = Clock()
    meter = _meter.Meter(2, examples=100, busy=50.0, clock=clock)
    run(meter, clock, [30.0])  # compiles
    meter.restart()
    clock.now += 1000.0  # an evaluation
    meter.resume()
    run(meter, clock, [4.0])
    meter.restart()
    assert meter.total() == (102, 54.0)


def test_a_run_of_one_call_has_its_speed_from_that():
    clock = Clock()
    meter = _meter.Meter(2, clock=clock)
    run(meter, clock, [8.0])
    meter.restart()
    assert meter.total() == (2, 8.0)
