"""Several processes as one run."""

import errno
import json
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

T = TypeVar("T")
_LAGS = (0.5, 1.0, 2.0, 4.0)  # seconds that a shared folder may lag behind
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
        ValueError: If only some of the three are given, or one is out of range, or the
            port of the coordinator is in use.
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
        if process == 0:
            _check_free(coordinator)
        else:
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


def _check_free(coordinator: str) -> None:
    """Raises if something listens at the coordinator's port; JAX would crash there."""
    port = int(coordinator.rpartition(":")[2])
    for kind in (socket.AF_INET, socket.AF_INET6):
        try:
            with socket.socket(kind) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("", port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                continue  # a host without this kind of addresses
            raise ValueError(
                f"`--coordinator` needs a port that is free on the host of process 0, "
                f"got {coordinator!r} ({error.strerror}). Is an earlier run still "
                "there? Choose another port, in all processes."
            ) from error


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


def everyones(value: np.generic) -> np.ndarray:
    """A number of each process, in their order; all of them learn it."""
    if jax.process_count() == 1:
        return np.array([value])
    return np.asarray(multihost_utils.process_allgather(np.asarray(value)))


def is_so_everywhere(true: bool, /) -> bool:  # noqa: FBT001
    """Whether it is so in every process; all of them learn it."""
    return bool(everyones(np.bool_(true)).all())


def seen_by_all(look: Callable[[], T], is_one: Callable[[T], Any]) -> T:
    """What processes see of a shared folder, looked at until they see the same.

    Args:
        look: () -> what all of them see, the same in each.
        is_one: Whether that is one and the same.

    Returns:
        The last look, after eight seconds at most.
    """
    found = look()
    for wait in _LAGS:
        if is_one(found):
            break
        time.sleep(wait)
        found = look()
    return found


def refuse_different(told: dict[str, Any]) -> None:
    """Raises, in every process, unless all of them say the same.

    Args:
        told: What it is called -> what JSON can hold.

    Raises:
        ValueError: It names the first that differs, and what two processes say.
    """
    if jax.process_count() == 1:
        return
    text = json.dumps(told, sort_keys=True).encode()
    size = int(everyones(np.int32(len(text))).max())
    padded = np.frombuffer(text.ljust(size), np.uint8)
    first, *others = map(_read, np.asarray(multihost_utils.process_allgather(padded)))
    for process, other in enumerate(others, 1):
        for name in sorted(first.keys() | other.keys()):
            here, there = (each.get(name, "not there") for each in (first, other))
            if here != there:
                raise ValueError(
                    f"All processes of a run need the same config, code and data, but "
                    f"{name} is {here!r} in process 0 and {there!r} in process "
                    f"{process}. Start all of them with the same command."
                )


def _read(text: np.ndarray) -> dict[str, Any]:
    return json.loads(text.tobytes())


def barrier(name: str) -> None:
    """Returns when every process has come to the same place."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)
