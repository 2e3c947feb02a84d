"""`python -O`: every process of a run leaves out assertions if the one that submitted it did, and none otherwise.

The spec has the level, and each process that runs the user's code is told it by the variable that Python reads. Ray's
own services are not, for then all of Ray would have to be compiled anew. What a function gives without its assertions
is another result, so the level is a part of the code (see `hashing`).
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping

from runner.errors import InputError, SpecError

#: What Python reads at its start, as `-O` and `-OO`.
VARIABLE = "PYTHONOPTIMIZE"


def level() -> int:
    """Of this process: 0, 1 (assertions are left out) or 2 (docstrings, too)."""
    return sys.flags.optimize


def environment(base: Mapping[str, str], level: int) -> dict[str, str]:
    """An environment for processes of that level, which is otherwise as `base`."""
    others = {name: value for name, value in base.items() if name != VARIABLE}
    return {**others, VARIABLE: str(level)} if level else others


def for_workers() -> dict[str, str]:
    """What workers of Ray are told, which are to be as this process: an empty variable is none."""
    return {VARIABLE: str(level() or "")}


def in_shell(command: str, level: int) -> str:
    """A shell's command for a process of that level."""
    return f"{VARIABLE}={level} {command}" if level else command


@contextlib.contextmanager
def hidden() -> Iterator[None]:
    """What is started inside is told no level by the environment."""
    before = os.environ.pop(VARIABLE, None)
    try:
        yield
    finally:
        if before is not None:
            os.environ[VARIABLE] = before


def check(wanted: int, where: str) -> None:
    """Raise InputError in a process that is not of the run's level: an image, or a machine, may set the variable."""
    found = level()
    if found != wanted:
        raise InputError(
            f"{where} runs as {_said(found)}, and the run was submitted by {_said(wanted)}",
            allowed="one level in all processes of a run",
            todo=f"leave {VARIABLE} out of images and machines; submit with `python -O -m runner submit` to have it",
        )


def refuse(environment: Mapping[str, str], where: str) -> None:
    """Raise SpecError where a cluster's definition sets the level: that is the submission's to say."""
    if VARIABLE in environment:
        raise SpecError(
            f"{VARIABLE}={environment[VARIABLE]!r}",
            allowed="an environment without it: pods are started as the process that submits",
            todo="remove it, and submit with `python -O -m runner submit`",
            where=where,
        )


def _said(level: int) -> str:
    return f"`python -{'O' * level}`" if level else "`python` without -O"
