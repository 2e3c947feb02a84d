"""Imported first by a fork server: from then on it dies with the driver, and what is forked from it dies with it.

It also adopts what those leave behind, and with it the duty to take note of its end: a fork server waits for any child.
The driver, which adopts too, could not tell such from those that somebody in it waits for.
"""

from __future__ import annotations

import os
import signal
import warnings

from runner.worker.processes import adopt_orphans, die_with_parent

_driver = os.environ.get("RUNNER_FORKSERVER_PARENT")
if _driver is not None and os.getppid() == int(_driver):
    die_with_parent(int(_driver), signal.SIGKILL)
    adopt_orphans()
    warnings.filterwarnings("ignore", "forkserver: waitpid returned unexpected pid")  # adopted

#: Set where the module is imported: in the server; what is forked from it inherits the value.
_server = os.getpid()


def die_with_server() -> None:
    """To be called first in a forked process. A server that is dead by then (its driver was) is seen too."""
    die_with_parent(_server, signal.SIGKILL)
