"""How a run's own code is entered on machines that have none of it yet."""

from __future__ import annotations

from importlib import resources

#: Runs the text in RUNNER_BOOT, see `boot_text`. It passes through a shell, so it has no character that one changes.
ENTRYPOINT = "python -c \"import os; exec(os.environ['RUNNER_BOOT'])\""


def boot_text() -> str:
    """The program that fetches the run's code."""
    return (resources.files(__package__) / "boot.py").read_text()
