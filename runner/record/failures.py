"""Errors as a log keeps them: under the name of their class, so that whoever reads one gets the class back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Annotated, Any

from runner.errors import (
    ApiError,
    Cause,
    DataAway,
    DataDamaged,
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
from runner.record.endings import Ending
from runner.untrusted.typed import Key, Record, sparse
from runner.untrusted.visible import visible

#: The classes by the names under which a log keeps them; what is not here is kept as its nearest base.
NAMES: dict[str, type[RunnerError]] = {
    each.__name__: each
    for each in (
        RunnerError,
        InputError,
        SpecError,
        ProjectError,
        PlanError,
        DataError,
        DataDamaged,
        DataAway,
        RunNotFound,
        MissingPackage,
        NotYours,
        StoreError,
        StoreAway,
        StoreBroken,
        StoreRefused,
        RunFailed,
        UserCodeError,
        WorkerLost,
        OutOfMemory,
        WorkerAway,
        StageTimeout,
        Fenced,
        InternalError,
        ApiError,
        Interrupted,
    )
}
_CAUSES = frozenset(map(str, Cause))
#: Characters of an error's words that a log keeps, and of each end where there are more.
_LONGEST, _KEPT = 200_000, 90_000


@dataclass(frozen=True)
class Parts(Record):
    """An error that says what was found, what is allowed, what to do and where."""

    found: str
    allowed: str = ""
    todo: str = ""
    where: str = ""


@dataclass(frozen=True)
class Failure(Record):
    """An error as a log keeps it.

    Args:
        name: of its class; see `NAMES`.
        trace: the user's frames.
        rank, stage: where it was raised, if that is known.
        causes: of the loss of a process, in words, as the machines tell them.
        parts: of one in four parts these.
        named: the cause, by its name; see `cause`.
    """

    name: Annotated[str, Key("class")]
    message: str
    trace: str | None = ""
    rank: int | None = None
    stage: str | None = sparse(None)
    causes: tuple[str, ...] = sparse(())
    parts: Parts | None = sparse(None)
    named: Annotated[str, Key("cause")] = sparse("")

    @property
    def cause(self) -> Cause:
        """What made it fail."""
        return cause_of(self.name, self.named)

    @classmethod
    def of(cls, error: RunnerError) -> Failure:
        """What is kept of an error that was raised."""
        kind = next(each for each in type(error).__mro__ if NAMES.get(each.__name__) is each)
        failure = failed(kind, getattr(error, "message", None) or str(error), error.cause, trace=kept(error.trace))
        failure = replace(failure, rank=getattr(error, "rank", None))
        if isinstance(error, Explained):
            told = (error.found, error.allowed, error.todo, error.where)
            failure = replace(failure, parts=Parts(*map(kept, told)))
        return failure

    def is_a(self, kind: type[RunnerError]) -> bool:
        """Whether it is of that class."""
        return issubclass(NAMES.get(self.name, RunFailed), kind)

    def amended(self, *, before: str = "", causes: Iterable[str] = ()) -> Failure:
        """The same, of which more is known than what was raised.

        Args:
            before: what it was in the midst of.
            causes: in words, of those who saw it from elsewhere; what the error says itself is not said again.
        """
        fresh = [cause for cause in causes if cause not in self.message]

        def said(words: str) -> str:
            return "\n".join([f"{before}: {words}" if before else words, *fresh])

        parts = None if self.parts is None else replace(self.parts, found=said(self.parts.found))
        return replace(self, message=said(self.message), parts=parts)

    def explained(self, endings: Iterable[Ending]) -> Failure:
        """The same with why a process ended, as others saw it: the driver knows its own side (a lost connection)."""
        seen = tuple(endings)
        if not seen:
            return self
        words, named = tuple(each.words for each in seen), self.named
        if self.cause in (Cause.MACHINE_LOST, Cause.PEER_AWAY):
            known = [each.cause for each in seen if each.cause is not Cause.MACHINE_LOST]
            named = str(known[0] if known else Cause.MACHINE_LOST)
        return replace(self.amended(causes=words), causes=words, named=named)

    def told(self) -> dict[str, Any]:
        """As a document tells it: with all that may be known of any."""
        return {"stage": None, **self.to_json(), "cause": str(self.cause)}

    def to_error(self) -> RunnerError:
        """The error of its class and cause. One that only a newer runner knows is a RunFailed."""
        error = self._of_class()
        if error.cause is not self.cause:
            error.cause = self.cause
        return error

    def _of_class(self) -> RunnerError:
        kind, message, trace = NAMES.get(self.name, RunFailed), visible(self.message), visible(self.trace or "")
        if issubclass(kind, UserCodeError):
            return kind(message, trace=trace, rank=self.rank)
        if issubclass(kind, InternalError):
            return kind(message, trace=trace)
        if issubclass(kind, Explained):
            told = self.parts or Parts(message)
            parts = {name: visible(words) for name, words in told.to_json().items()}
            error: RunnerError = kind(parts.pop("found"), **parts)
        else:
            error = ApiError(0, message) if issubclass(kind, ApiError) else kind(message)
        if trace:
            error.trace = trace
        return error


def failed(
    kind: type[RunnerError], message: str, cause: Cause | None = None, *, trace: str = "", stage: str | None = None
) -> Failure:
    """What a log keeps of an error that nothing raised.

    Args:
        cause: that of the class if it is not given.
    """
    return Failure(kind.__name__, kept(message), trace, stage=stage, named=str(cause or kind.cause))


def cause_of(name: str, named: str) -> Cause:
    """What made something fail: that of its class where there were no causes yet, or this one is not known.

    Args:
        name: of the class.
        named: the cause as it is kept.
    """
    return Cause(named) if named in _CAUSES else NAMES.get(name, RunFailed).cause


def kept(words: str) -> str:
    """An error's words as an entry may hold them: both ends of what is too long, for an exception may hold all of the
    user's data, and no halves of characters, which names of files have that are no UTF-8.
    """
    if len(words) > _LONGEST:
        words = f"{words[:_KEPT]}\n... {len(words) - 2 * _KEPT:,} characters ...\n{words[-_KEPT:]}"
    return words.encode(errors="backslashreplace").decode()


def is_a(failure: Failure | None, kind: type[RunnerError]) -> bool:
    """Whether there is a failure, of that class."""
    return failure is not None and failure.is_a(kind)


def exit_code_of(failure: Failure | None) -> int:
    """The exit code of a run that failed with that: 2 where a stage found that the input is wrong (its data, a
    call of `ctx`, a definition), otherwise 1: also where a store was lost, or filled up, on the way.
    """
    found_wrong = is_a(failure, InputError) and not is_a(failure, StoreError)
    return InputError.exit_code if found_wrong else RunFailed.exit_code
