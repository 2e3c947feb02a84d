"""Imported first by a fork server: from then on it dies with the driver, and what is forked from it dies with it."""

from __future__ import annotations

import os
import signal

from runner.backends.processes import die_with_parent

_driver = os.environ.get("RUNNER_FORKSERVER_PARENT")
if _driver is not None and os.getppid() == int(_driver):
    die_with_parent(int(_driver), signal.SIGKILL)

#: Set where the module is imported: in the server; what is forked from it inherits the value.
_server = os.getpid()


def die_with_server() -> None:
    """To be called first in a forked process. A server that is dead by then (its driver was) is seen too."""
    die_with_parent(_server, signal.SIGKILL)
