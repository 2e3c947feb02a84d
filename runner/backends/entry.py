"""How a run's own code is entered: which of its modules are programs, and what fetches it where it is not yet.

A bundle carries its own runner. So its spec says what that is started by, and whoever starts it, a later runner
perhaps, goes by what the spec says.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources

from runner.process.package import NAME

#: The programs of this runner: the module of each.
PROGRAMS = {"supervisor": f"{NAME}.control.supervisor", "driver": f"{NAME}.driver.main"}
#: Those of runners whose specs say nothing.
_UNSAID = {"supervisor": "runner.supervisor", "driver": "runner.worker.driver"}
#: Runs the text in RUNNER_BOOT, see `boot_text`. It passes through a shell, so it has no character that one changes.
ENTRYPOINT = "python -c \"import os; exec(os.environ['RUNNER_BOOT'])\""


def programs_of(entry: Mapping[str, str]) -> Mapping[str, str]:
    """ "supervisor" and "driver" -> the module that is started, of the runner in a bundle by what its spec says."""
    return entry or _UNSAID


def boot_text() -> str:
    """The program that fetches the run's code."""
    return (resources.files(__package__) / "boot.py").read_text()
