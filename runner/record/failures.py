"""Errors as a log keeps them: under the name of their class, so that whoever reads one gets the class back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from runner.errors import (
    ApiError,
    Cause,
    DataError,
    Explained,
    Fenced,
    InputError,
    InternalError,
    Interrupted,
    MissingPackage,
    NotYours,
    OutOfMemory,
    PlanError,
    ProjectError,
    RunFailed,
    RunnerError,
    RunNotFound,
    SpecError,
    StageTimeout,
    StoreAway,
    StoreBroken,
    StoreError,
    StoreRefused,
    UserCodeError,
    WorkerAway,
    WorkerLost,
)
from runner.untrusted.visible import visible

#: The classes by the names under which a log keeps them; what is not here is kept as its nearest base.
NAMES: dict[str, type[RunnerError]] = {
    each.__name__: each
    for each in (
        RunnerError, InputError, SpecError, ProjectError, PlanError, DataError, RunNotFound, MissingPackage, NotYours,
        StoreError, StoreAway, StoreBroken, StoreRefused, RunFailed, UserCodeError, WorkerLost, OutOfMemory, WorkerAway,
        StageTimeout, Fenced, InternalError, ApiError, Interrupted,
    )
}  # fmt: skip
_CAUSES = frozenset(map(str, Cause))
#: Characters of an error's words that a log keeps, and of each end where there are more.
_LONGEST, _KEPT = 200_000, 90_000


def entry_of(kind: type[RunnerError], message: str, cause: Cause | None = None, **more: Any) -> dict[str, Any]:
    """What a log keeps of an error that nothing raised: "class", "cause", "message", "trace", "rank".

    Args:
        cause: that of the class if it is not given.
    """
    told = str(cause or kind.cause)
    return {"class": kind.__name__, "cause": told, "message": _cut(message), "trace": "", "rank": None, **more}


def _cut(words: str) -> str:
    """Both ends of what is too long for an entry: an exception may hold all of the user's data in its words."""
    if len(words) <= _LONGEST:
        return words
    return f"{words[:_KEPT]}\n... {len(words) - 2 * _KEPT:,} characters ...\n{words[-_KEPT:]}"


def to_entry(error: RunnerError) -> dict[str, Any]:
    """An error as a log keeps it: as `entry_of`, and of one in four parts these as "parts"."""
    kind = next(each for each in type(error).__mro__ if NAMES.get(each.__name__) is each)
    message = getattr(error, "message", None) or str(error)
    entry = entry_of(kind, message, error.cause, trace=_cut(error.trace), rank=getattr(error, "rank", None))
    if isinstance(error, Explained):
        parts = {"found": error.found, "allowed": error.allowed, "todo": error.todo, "where": error.where}
        entry["parts"] = {name: _cut(words) for name, words in parts.items()}
    return entry


def amended(entry: Mapping[str, Any], *, before: str = "", causes: Iterable[str] = ()) -> dict[str, Any]:
    """An entry of which more is known than what was raised.

    Args:
        before: what it was in the midst of.
        causes: in words, of those who saw it from elsewhere; what the error says itself is not said again.
    """
    fresh = [cause for cause in causes if cause not in entry["message"]]

    def said(words: str) -> str:
        return "\n".join([f"{before}: {words}" if before else words, *fresh])

    told = {**entry, "message": said(entry["message"])}
    if entry.get("parts"):
        told["parts"] = {**entry["parts"], "found": said(entry["parts"]["found"])}
    return told


def from_entry(entry: Mapping[str, Any]) -> RunnerError:
    """The error that a log keeps, of its class and cause. One that only a newer runner knows is a RunFailed."""
    error, cause = _of_class(entry), cause_of(entry)
    if error.cause is not cause:
        error.cause = cause
    return error


def _of_class(entry: Mapping[str, Any]) -> RunnerError:
    kind, message = NAMES.get(entry["class"], RunFailed), visible(str(entry["message"]))
    trace = visible(entry.get("trace") or "")
    if issubclass(kind, UserCodeError):
        return kind(message, trace=trace, rank=entry.get("rank"))
    if issubclass(kind, InternalError):
        return kind(message, trace=trace)
    if issubclass(kind, Explained):
        told = entry.get("parts") or {"found": message}
        parts = {name: visible(str(told.get(name, ""))) for name in ("found", "allowed", "todo", "where")}
        error: RunnerError = kind(parts.pop("found"), **parts)
    else:
        error = ApiError(0, message) if issubclass(kind, ApiError) else kind(message)
    if trace:
        error.trace = trace
    return error


def cause_of(entry: Mapping[str, Any]) -> Cause:
    """What made it fail; that of its class in an entry of before there were causes, and one that is not known."""
    named = entry.get("cause")
    return Cause(named) if named in _CAUSES else NAMES.get(str(entry.get("class")), RunFailed).cause


def is_a(entry: Mapping[str, Any] | None, kind: type[RunnerError]) -> bool:
    """Whether what a log keeps of an error, if there is one, is of that class."""
    return entry is not None and issubclass(NAMES.get(entry["class"], RunFailed), kind)


def exit_code_of(entry: Mapping[str, Any] | None) -> int:
    """The exit code of a run that failed with that error: 2 where a stage found that the input is wrong (its data, a
    call of `ctx`, a definition), otherwise 1: also where a store was lost, or filled up, on the way.
    """
    found_wrong = is_a(entry, InputError) and not is_a(entry, StoreError)
    return InputError.exit_code if found_wrong else RunFailed.exit_code
