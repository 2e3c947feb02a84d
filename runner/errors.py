"""Every exception of runner.

RunnerError
├── InputError            the user's input is wrong; nothing was spent      exit 2
│   ├── SpecError         a field of a definition
│   ├── ProjectError      a file, a folder or a definition cannot be loaded
│   ├── PlanError         the stages do not fit together
│   ├── DataError         data is missing, empty, unreadable or of another schema
│   ├── StoreError        the store cannot be reached, written or trusted
│   │   └── StoreAway     it does not answer now
│   └── RunNotFound       no run, or several, by that name
├── RunFailed             the run was started and did not succeed           exit 1
│   ├── UserCodeError     the user's function raised
│   ├── WorkerLost        a process of ours died without a word
│   ├── StageTimeout      a stage or a phase took longer than it may
│   └── Fenced            a newer attempt has taken over; this writer leaves
├── ApiError              the API of the machines refused or did not answer  exit 1
└── Interrupted           the user pressed Ctrl-C                           exit 130
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class RunnerError(Exception):
    """The root of the tree."""

    exit_code = 1


class InputError(RunnerError):
    """Wrong input, said in four parts: where, what was found, what is allowed, what to do."""

    exit_code = 2

    def __init__(self, found: str, *, allowed: str = "", todo: str = "", where: str = "") -> None:
        self.found, self.allowed, self.todo, self.where = found, allowed, todo, where
        super().__init__(found, allowed, todo, where)

    def __str__(self) -> str:
        head = f"{self.where}: {self.found}" if self.where else self.found
        lines = [head]
        if self.allowed:
            lines.append(f"  allowed: {self.allowed}")
        if self.todo:
            lines.append(f"  to do:   {self.todo}")
        return "\n".join(lines)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_input_error, (type(self), self.found, self.allowed, self.todo, self.where)


def _rebuild_input_error(kind: type[InputError], found: str, allowed: str, todo: str, where: str) -> InputError:
    return kind(found, allowed=allowed, todo=todo, where=where)


class SpecError(InputError):
    """A field of a definition has a value that is not allowed."""


class ProjectError(InputError):
    """A file or folder of the project, or a definition in it, cannot be loaded."""


class PlanError(InputError):
    """The stages of a job do not fit together."""


class DataError(InputError):
    """Data is missing, empty, unreadable or not of the schema that was seen before."""


class StoreError(InputError):
    """The store cannot be reached, written, or trusted to create a file only if it is absent."""


class StoreAway(StoreError):
    """The store does not answer, or has too much to do: the same may succeed in a moment."""


class RunNotFound(InputError):
    """A name of a run fits none, or more than one."""


class RunFailed(RunnerError):
    """The run was started and did not succeed."""


class UserCodeError(RunFailed):
    """The user's function raised.

    Args:
        message: one line that says what was raised and where it happened.
        trace: the user's traceback as text, without frames of runner.
        rank: the rank that raised first, if it was a training stage.
    """

    def __init__(self, message: str, *, trace: str = "", rank: int | None = None) -> None:
        super().__init__(message)
        self.message, self.trace, self.rank = message, trace, rank

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild_user_error, (type(self), self.message, self.trace, self.rank)


def _rebuild_user_error(kind: type[UserCodeError], message: str, trace: str, rank: int | None) -> UserCodeError:
    return kind(message, trace=trace, rank=rank)


class WorkerLost(RunFailed):
    """A process of the run died without reporting an error (killed, out of memory, segmentation fault)."""


class StageTimeout(RunFailed):
    """A stage, or a phase inside one, took longer than its timeout."""


class Fenced(RunFailed):
    """A newer attempt has begun; whatever this one would write is refused."""


class ApiError(RunnerError):
    """The API of the machines (Kubernetes, Ray) refused a request, or did not answer.

    Args:
        status: of HTTP; 0 where there was no answer.
        message: its sentence.
    """

    def __init__(self, status: int, message: str) -> None:
        self.status, self.message = status, message
        super().__init__(message)


class Interrupted(RunnerError):
    """The user interrupted the run."""

    exit_code = 130


def suggest(name: str, known: Iterable[str]) -> str:
    """The words ``did you mean 'x'?`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Names in quotes, comma-separated, for the ``allowed`` part of an error."""
    return ", ".join(f"'{name}'" for name in names) or "nothing"
