"""Requests to stop: a signal from a scheduler, or Ctrl-C."""

import contextlib
import os
import signal
from collections.abc import Iterator

import jax
from jax.experimental import multihost_utils

RESUME_STATUS = 75
"""Exit status of a run that was asked to stop and has saved: start it again."""

_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)


class StoppedError(Exception):
    """A run was asked to stop, and has saved its state.

    Attributes:
        status: The exit status that tells why.
    """

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class StopSign:
    """Whether the run has been asked to stop; the same answer in every process."""

    def __init__(self):
        self.received = 0
        self._is_up = self._listens = False
        self._questions = 0

    def is_up(self) -> bool:
        """Asked while listening, equally often in every process."""
        if not self._listens:
            return False
        if jax.process_count() == 1:
            return self.received != 0
        if not self._is_up:
            self._questions += 1
            self._is_up = multihost_utils.reached_preemption_sync_point(self._questions)
        return self._is_up

    @property
    def status(self) -> int:
        """The exit status: 130 after Ctrl-C, else the one that asks for a restart."""
        return 130 if self.received == signal.SIGINT else RESUME_STATUS

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Takes the signals; a second Ctrl-C interrupts at once."""
        several = jax.process_count() > 1

        def note(number: int, frame: object) -> None:
            del frame
            if number == signal.SIGINT:
                signal.signal(number, signal.default_int_handler)
            self.received = number
            if several:  # JAX listens to this one, and tells the other processes
                os.kill(os.getpid(), signal.SIGTERM)

        mine = _SIGNALS[1:] if several else _SIGNALS
        try:
            before = {number: signal.signal(number, note) for number in mine}
        except ValueError:  # not the main thread: whoever started it has the signals
            before = {}
        self._listens = True
        try:
            yield
        finally:
            self._listens = False
            for number, handler in before.items():
                signal.signal(number, handler)
