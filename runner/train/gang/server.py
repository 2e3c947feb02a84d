"""A fork server for ranks: one process that has imported torch, from which ranks start in milliseconds.

Importing torch and what it loads with the first optimizer and the first DDP takes seconds, and `torchrun` pays them
once in the launcher and once more in every rank. Here they are paid once, beside whatever the driver does meanwhile.
The server is apart from the one of the preparation pool, so that a prep stage does not wait for torch.
"""

from __future__ import annotations

import io
import multiprocessing.context
import multiprocessing.process
import os
import threading
from multiprocessing import forkserver, popen_forkserver, reduction, resource_tracker, spawn, util
from multiprocessing.context import set_spawning_popen
from typing import Any

from runner.worker import forkserver_child

#: The first makes the server die with the driver; the second imports what every rank needs.
PRELOAD = (forkserver_child.__name__, f"{__package__}.preload")

_server = forkserver.ForkServer()
_server.set_forkserver_preload(list(PRELOAD))


def warm_up() -> None:
    """Start the server, which begins to import; returns at once, and a second call changes nothing.

    The kernel ends the server when the thread that started it ends (PR_SET_PDEATHSIG), so this is for the main thread.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("the gang's server must be started in the main thread: call warm_up() there first")
    before = os.environ.get("RUNNER_FORKSERVER_PARENT")
    os.environ["RUNNER_FORKSERVER_PARENT"] = str(os.getpid())
    try:
        _server.ensure_running()
    finally:
        if before is None:
            del os.environ["RUNNER_FORKSERVER_PARENT"]
        else:
            os.environ["RUNNER_FORKSERVER_PARENT"] = before


def stop() -> None:
    """End the server, if it runs; ranks must have ended before."""
    _server._stop()  # type: ignore[attr-defined]


def address() -> tuple[str, bytes | None]:
    """What `join` needs in a process that was forked from the server."""
    return _server._forkserver_address, getattr(_server, "_forkserver_authkey", None)  # type: ignore[attr-defined]


class _Joined(forkserver.ForkServer):
    """The server as a process sees it that was forked from it: it neither starts nor ends it."""

    def ensure_running(self) -> None:
        resource_tracker.ensure_running()


def join(server: tuple[str, bytes | None]) -> None:
    """In a process that was forked from the server: fork others from it from now on, as the driver does."""
    global _server
    joined: Any = _Joined()
    joined._forkserver_address, joined._forkserver_authkey = server
    joined._forkserver_alive_fd = forkserver._forkserver._forkserver_alive_fd  # type: ignore[attr-defined]
    _server = joined


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Popen(popen_forkserver.Popen):
    """The standard library's, with our server in place of its one global server."""

    def _launch(self, process_obj: Any) -> None:
        buffer = io.BytesIO()
        set_spawning_popen(self)
        try:
            reduction.dump(spawn.get_preparation_data(process_obj._name), buffer)
            reduction.dump(process_obj, buffer)
        finally:
            set_spawning_popen(None)
        self.sentinel, writer = _server.connect_to_new_process(self._fds)  # type: ignore[attr-defined]
        parent_writer = os.dup(writer)  # closes when this process dies, which the child's parent_process() sees
        self.finalizer = util.Finalize(self, _close, (parent_writer, self.sentinel))
        with open(writer, "wb", closefd=True) as file:
            file.write(buffer.getbuffer())
        self.pid = forkserver.read_signed(self.sentinel)


class RankProcess(multiprocessing.process.BaseProcess):
    """A process forked from the server."""

    _start_method = "forkserver"

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        return _Popen(process_obj)
