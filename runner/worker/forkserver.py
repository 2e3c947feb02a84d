"""One process, started early, that imports what data preparation needs; workers are forked from it in milliseconds."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import os
from multiprocessing import forkserver as stdlib_forkserver

from runner.worker import forkserver_child


def start(preload: tuple[str, ...]) -> None:
    """Start the server; a second call changes nothing.

    Args:
        preload: modules to import in it. One that cannot be imported there is imported by the workers, who report it.
    """
    os.environ["RUNNER_FORKSERVER_PARENT"] = str(os.getpid())
    multiprocessing.set_forkserver_preload([forkserver_child.__name__, *preload])
    stdlib_forkserver.ensure_running()


def context() -> multiprocessing.context.ForkServerContext:
    """The multiprocessing context whose processes are forked from the server."""
    return multiprocessing.get_context("forkserver")
