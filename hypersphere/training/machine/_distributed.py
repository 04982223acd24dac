"""Several processes as one run."""

import socket
import sys
import threading
import time

import jax
import numpy as np
from jax.experimental import multihost_utils

_SILENT = 5.0  # seconds of waiting for the others before a line says so


def join(
    coordinator: str = "",
    *,
    processes: int = 0,
    process: int = -1,
    timeout: int = 120,
    heartbeat: int = 30,
) -> None:
    """Joins the other processes of a run, before anything else uses JAX.

    Without arguments JAX finds the others itself: under SLURM, Open MPI, Kubernetes
    and on TPU pods.

    Args:
        coordinator: Address of process 0 as `HOST:PORT`; empty to be found.
        processes: How many processes there are.
        process: Which one this is, from 0.
        timeout: Seconds to wait for the others, at the start and at the end.
        heartbeat: Seconds without a sign of life after which a process counts as dead,
            which ends the others.

    Raises:
        ValueError: If only some of the three are given, or one is out of range.
        ConnectionError: If the coordinator cannot be reached in time. If another
            process does not come, JAX ends this one with SIGABRT.

    Example:
        >>> from hypersphere import training
        >>> training.join(
        ...     "10.0.0.1:8476", processes=2, process=0
        ... )  # doctest: +SKIP
    """
    if coordinator:
        _check(coordinator, processes, process)
        if process:
            _wait_for(coordinator, process, processes, timeout)
    elif processes or process != -1:
        raise ValueError(
            "Several processes need all of --coordinator=HOST:PORT, --processes and "
            "--process, or none of them where the cluster tells them "
            "(--distributed), got no coordinator."
        )
    patience = threading.Timer(_SILENT, _tell, (timeout,))
    patience.daemon = True
    patience.start()
    try:
        jax.distributed.initialize(
            coordinator or None,
            processes or None,
            process if coordinator else None,
            initialization_timeout=timeout,
            shutdown_timeout_seconds=timeout,
            heartbeat_timeout_seconds=heartbeat,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConnectionError(
            f"This process could not join the others within {timeout} s ({reason}). "
            "Are all of them started, with the same --coordinator and --processes?"
        ) from error
    finally:
        patience.cancel()


def _tell(timeout: int) -> None:
    """Says what is waited for: JAX ends the process itself when it is too long."""
    sys.stderr.write(
        f"Waiting up to {timeout} s for the other processes. Are all of them started, "
        "each once, with the same --coordinator and --processes?\n"
    )


def _check(coordinator: str, processes: int, process: int) -> None:
    host, colon, port = coordinator.rpartition(":")
    if not (host and colon and port.isdigit()):
        raise ValueError(
            f"`--coordinator` needs HOST:PORT, got {coordinator!r}. It is the address "
            "of process 0, with a port that is free there."
        )
    if not 0 <= process < processes:
        raise ValueError(
            "Several processes need `0 <= --process < --processes`, got "
            f"--process={process} and --processes={processes}."
        )


def _wait_for(coordinator: str, process: int, processes: int, timeout: int) -> None:
    """Returns when the coordinator listens; JAX itself would end the process."""
    host, _, port = coordinator.rpartition(":")
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > end:
                raise ConnectionError(
                    f"Process {process} of {processes} could not reach the coordinator "
                    f"at {coordinator} within {timeout} s ({error}). Is process 0 "
                    "running there, and the port open?"
                ) from error
            time.sleep(min(1.0, timeout / 10))


def is_first() -> bool:
    """Whether this process writes the files and talks to the user."""
    return jax.process_index() == 0


def is_so_everywhere(true: bool, /) -> bool:  # noqa: FBT001
    """Whether it is so in every process; all of them learn it."""
    if jax.process_count() == 1:
        return true
    return bool(multihost_utils.process_allgather(np.array(true)).all())


def barrier(name: str) -> None:
    """Returns when every process has come to the same place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
