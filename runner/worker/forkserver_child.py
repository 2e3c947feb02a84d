"""Imported first by the fork server: from then on it dies with the driver."""

from __future__ import annotations

import os
import signal

from runner.backends.processes import die_with_parent

_driver = os.environ.get("RUNNER_FORKSERVER_PARENT")
if _driver is not None and os.getppid() == int(_driver):
    die_with_parent(int(_driver), signal.SIGKILL)
