"""What is said besides results goes to the logger `runner` and its children, one a module.

Importing runner configures nothing: a program that has set up logging gets ordinary records, and in any other Python
itself shows warnings. The command and the processes of a run call `configure`: then lines go to standard error, as
`runner: words`, and nothing in them moves a cursor, whoever wrote it.
"""

from __future__ import annotations

import logging
import os
import re
import sys

from runner.errors import InputError
from runner.untrusted.visible import visible

#: The environment variable that names the least level that is shown.
VARIABLE = "RUNNER_LOG"
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: How a line begins that is shown only on demand.
_ON_DEMAND = re.compile(r"runner: [0-9]{2}:[0-9]{2}:[0-9]{2} (?:debug|info) ")
#: By how often `-v` is given.
_VERBOSE = ("warning", "info", "debug")


class _Lines(logging.Formatter):
    """`runner: words` as the command says it; what is shown only on demand also says when and where."""

    def format(self, record: logging.LogRecord) -> str:
        """One record."""
        words = visible(super().format(record))
        if record.levelno >= logging.WARNING:
            return f"runner: {words}"
        return f"runner: {self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()} {record.name}: {words}"


class _StandardError(logging.Handler):
    """Standard error as it is when something is said: streams are exchanged while a process lives."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record; a stream that is gone takes none."""
        try:
            print(self.format(record), file=sys.stderr, flush=True)
        except (OSError, ValueError):
            self.handleError(record)


def level(verbose: int = 0) -> str:
    """The least level that is shown: by how often `-v` is given, otherwise by RUNNER_LOG, otherwise `warning`.

    Raises:
        InputError: RUNNER_LOG names none.
    """
    if verbose:
        return _VERBOSE[min(verbose, len(_VERBOSE) - 1)]
    named = os.environ.get(VARIABLE, "").strip().lower() or "warning"
    if named not in LEVELS:
        raise InputError(
            f"{VARIABLE}={os.environ[VARIABLE]!r}", allowed=", ".join(LEVELS), todo="set it to one of these, or not"
        )
    return named


def undemanded(printed: str) -> str:
    """What a process has printed, without the lines that it shows only on demand."""
    return "\n".join(line for line in printed.splitlines() if not _ON_DEMAND.match(line))


def configure(least: str | None = None) -> None:
    """Show what this process says on standard error.

    Args:
        least: level that is shown. None: as RUNNER_LOG has it, and warnings where that names no level, which is nothing
            to end a process of a run for.
    """
    if least is None:
        named = os.environ.get(VARIABLE, "").strip().lower()
        least = named if named in LEVELS else "warning"
    logger = logging.getLogger("runner")
    logger.setLevel(LEVELS[least])
    logger.propagate = False  # the user's functions may set up logging for themselves in this very process
    if not any(isinstance(each, _StandardError) for each in logger.handlers):
        handler = _StandardError()
        handler.setFormatter(_Lines())
        logger.addHandler(handler)
