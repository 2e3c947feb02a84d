"""Every exception of runner.

RunnerError
├── InputError            the user's input is wrong                         exit 2
│   ├── SpecError         a field of a definition
│   ├── ProjectError      a file, a folder or a definition cannot be loaded
│   ├── PlanError         the stages do not fit together
│   ├── DataError         data is missing, empty, unreadable or of another schema
│   │   ├── DataDamaged   what a unit of it holds cannot be read, however often it is fetched
│   │   └── DataAway      or the store that it lies in does not answer now
│   ├── RunNotFound       no run, or several, by that name
│   ├── MissingPackage    an optional package that this needs is not installed
│   └── StoreRefused      (also a StoreError) the store that was named cannot take a run: no right, no room
├── StoreError            the store could not be read or written            exit 1
│   ├── StoreAway         it does not answer now
│   ├── StoreBroken       what lies there is not what runner writes
│   └── StoreRefused
├── RunFailed             the run was started and did not succeed           exit 1
│   ├── UserCodeError     the user's function raised
│   ├── WorkerLost        a process of the run died without a word
│   │   ├── OutOfMemory   because there was no memory left
│   │   └── WorkerAway    or it only does not answer: nobody knows yet
│   ├── StageTimeout      a stage or a phase took longer than it may
│   └── Fenced            a newer attempt has taken over; this writer leaves
├── InternalError         a bug of runner                                   exit 1
├── ApiError              the API of the machines refused or did not answer exit 1
└── Interrupted           the user pressed Ctrl-C                           exit 130

A failed run exits 1, and 2 where a stage found that the input is wrong. The log keeps an error under the name of its
class, and whoever reads it gets the class back (`runner.record.failures`): words decide nothing.
"""

from __future__ import annotations

import difflib
import enum
import traceback
from collections.abc import Iterable
from pathlib import Path

from runner.process.code_root import code_root, is_installed

#: What is said of a bug of ours, wherever it shows.
REPORT = "This is a bug of runner, not of your input. Please report it with the lines above and `runner --version`."
#: What Python calls the source that is typed, at its prompt and in IPython.
_TYPED = ("<stdin>", "<python-input", "<ipython-input")


class Cause(enum.StrEnum):
    """What ended something, or holds it up: decisions are made by these, never by words.

    What others say in words of their own (S3, disks, Kubernetes, Ray, gloo) becomes one of these where it comes in.
    """

    USER_ERROR = "user-error"  # the user's function raised
    BAD_INPUT = "bad-input"  # data, a definition or an argument is wrong
    OUT_OF_MEMORY = "out-of-memory"
    MACHINE_LOST = "machine-lost"  # a process or its machine is gone
    PEER_AWAY = "peer-away"  # a process does not answer, or its connection broke: nobody knows yet why
    PREEMPTED = "preempted"  # the machine was given to somebody else
    EVICTED = "evicted"  # a queue, or a node without room, took the machine away
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    FENCED = "fenced"  # a newer attempt has taken over
    STORE = "store"  # it could not be read or written
    STORE_AWAY = "store-away"  # it does not answer, or has too much to do
    STORE_BROKEN = "store-broken"  # what lies there is not what runner writes
    STORE_REFUSED = "store-refused"  # no right, no room, no such bucket
    API_AWAY = "api-away"  # the machines' API does not answer, or fails now
    API_BUSY = "api-busy"  # it has done nothing of what was asked for, and may do it in a moment
    API_REFUSED = "api-refused"  # it will never take that request
    POLICY = "policy"  # nor will a policy of the cluster, or a webhook
    POD_SECURITY = "pod-security"  # nor will the namespace's Pod Security standard
    DENIED = "denied"  # a right is missing
    QUOTA = "quota"  # others hold what there is, and give it back
    QUEUE = "queue"  # it waits for its turn
    NO_ROOM = "no-room"  # no machine has room for it now
    NO_NODE = "no-node"  # no machine is of the kind that is asked for
    IMAGE = "image"  # a container's image cannot be had
    VOLUME = "volume"  # a volume cannot be mounted
    CONFIG = "config"  # what a pod names is not there, or its container ends again and again
    OPERATOR = "operator"  # a program of the cluster has not acted yet
    DRIVER = "driver"  # it has its machines, and its driver has not said a word yet
    STARTING = "starting"  # only time is needed
    QUIET = "quiet"  # a stage has reported nothing for long
    FAILED = "failed"  # and nobody says more
    INTERNAL = "internal"  # a bug of runner


#: Causes that pass by themselves: the same may succeed in a moment.
PASSING = frozenset({Cause.STORE_AWAY, Cause.API_AWAY, Cause.API_BUSY, Cause.QUOTA})


class RunnerError(Exception):
    """The root of the tree. All of them can be pickled, whatever their constructors take."""

    exit_code = 1
    cause = Cause.FAILED
    trace = ""  # a traceback that belongs to it and was made elsewhere, as text

    def _render_traceback_(self) -> list[str]:
        """What a notebook shows (IPython asks for it): the user's own lines, then the words; none of runner's."""
        every = traceback.extract_tb(self.__traceback__)
        frames = [frame for frame in every if not (is_tool(frame.filename) or is_generated(frame.filename))]
        own = self.trace.splitlines()
        shown = [line.rstrip("\n") for line in traceback.format_list(frames)]
        return [
            *own,
            *(["Traceback (most recent call last):", *shown] if shown else []),
            f"{type(self).__name__}: {self}",
        ]

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.args, dict(vars(self)))


def _rebuild(kind: type[RunnerError], args: tuple[object, ...], fields: dict[str, object]) -> RunnerError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(fields)
    return error


class Explained(RunnerError):
    """An error that is said in four parts: where, what was found, what is allowed, what to do."""

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


class InputError(Explained):
    """Wrong input."""

    exit_code = 2
    cause = Cause.BAD_INPUT


class SpecError(InputError):
    """A field of a definition has a value that is not allowed."""


class ProjectError(InputError):
    """A file or folder of the project, or a definition in it, cannot be loaded."""


class PlanError(InputError):
    """The stages of a job do not fit together."""


class DataError(InputError):
    """Data is missing, empty, unreadable or not of the schema that was seen before."""


class DataDamaged(DataError):
    """A unit of a file was reached, and what it holds cannot be read as it was listed: its bytes are damaged, or what
    they say contradicts the rest. A Stream may set such a unit aside.
    """


class DataAway(DataError):
    """The store in which data lies does not answer, or has too much to do: the same may succeed in a moment."""

    cause = Cause.STORE_AWAY


class RunNotFound(InputError):
    """A name of a run fits none, or more than one."""


class MissingPackage(InputError):
    """A package that one of runner's extras brings is needed, and is not installed; see `runner.code.extras`."""


class NotYours(InputError):
    """A run that this user has not signed would start code; it takes his word."""


class StoreError(Explained):
    """The store could not be read or written."""

    cause = Cause.STORE


class StoreAway(StoreError):
    """The store does not answer, or has too much to do: the same may succeed in a moment."""

    cause = Cause.STORE_AWAY


class StoreBroken(StoreError):
    """An object of the store is not what runner writes: somebody else made it, or something has damaged it."""

    cause = Cause.STORE_BROKEN


class StoreRefused(StoreError, InputError):
    """The store that was named cannot take a run: it cannot create a file only if it is absent, this user has no right
    to it, or it has no room. The same of a disk here that is to take a copy.
    """

    cause = Cause.STORE_REFUSED


#: What is wrong with one object, where others of the same store could be read.
UNREADABLE = (StoreBroken, StoreRefused)


class RunFailed(RunnerError):
    """The run was started and did not succeed."""


class UserCodeError(RunFailed):
    """The user's function raised.

    Args:
        message: one line that says what was raised and where it happened.
        trace: the user's traceback as text, without frames of runner.
        rank: the rank that raised first, if it was a training stage.
    """

    cause = Cause.USER_ERROR

    def __init__(self, message: str, *, trace: str = "", rank: int | None = None) -> None:
        super().__init__(message)
        self.message, self.trace, self.rank = message, trace, rank


class WorkerLost(RunFailed):
    """A process of the run died without reporting an error (killed, out of memory, segmentation fault)."""

    cause = Cause.MACHINE_LOST


class OutOfMemory(WorkerLost):
    """A process of the run was ended because its machine, or its share of it, had no memory left."""

    cause = Cause.OUT_OF_MEMORY


class WorkerAway(WorkerLost):
    """A process of the run does not answer; whether it or its machine is gone is not known yet."""

    cause = Cause.PEER_AWAY


class StageTimeout(RunFailed):
    """A stage, or a phase inside one, took longer than its timeout."""

    cause = Cause.TIMEOUT


class Fenced(RunFailed):
    """A newer attempt has begun; whatever this one would write is refused."""

    cause = Cause.FENCED


class InternalError(RunnerError):
    """A bug of runner.

    Args:
        message: one line that says what was raised.
        trace: the whole traceback as text.
    """

    cause = Cause.INTERNAL

    def __init__(self, message: str, *, trace: str = "") -> None:
        super().__init__(message)
        self.message, self.trace = message, trace


def internal(error: BaseException) -> InternalError:
    """An exception that nobody foresaw, as what it is."""
    words = "".join(traceback.format_exception_only(error)).strip()
    return InternalError(words, trace="".join(traceback.format_exception(error)).rstrip("\n"))


#: Statuses of requests that will never be taken as they are. Others pass: what is absent or in the way comes and goes.
_NEVER = (400, 405, 406, 411, 413, 414, 415, 422, 501)


def cause_of_status(status: int) -> Cause:
    """What an API tells by its status of HTTP alone; 0: there was no answer."""
    if status in (401, 403):
        return Cause.DENIED
    if status == 429:
        return Cause.API_BUSY
    return Cause.API_REFUSED if status in _NEVER else Cause.API_AWAY


class ApiError(RunnerError):
    """The API of the machines (Kubernetes, Ray) refused a request, or did not answer.

    Args:
        status: of HTTP; 0 where there was no answer.
        message: its sentence.
        cause: what its words tell beyond the status.
    """

    cause = Cause.API_AWAY

    def __init__(self, status: int, message: str, cause: Cause | None = None) -> None:
        self.status, self.message, self.cause = status, message, cause or cause_of_status(status)
        super().__init__(message)


class Interrupted(RunnerError):
    """The user interrupted the run."""

    exit_code = 130
    cause = Cause.CANCELLED


def passes(error: RunnerError) -> bool:
    """Whether the same may succeed in a moment. A right that is missing stays missing."""
    return error.cause in PASSING


# -- words -----------------------------------------------------------------------------------------------------------


def is_tool(filename: str) -> bool:
    """Whether a frame is runner's, Python's, or that of a library that calls the user's code or is called by it."""
    if filename.endswith((".pyx", ".pxi")):  # Cython names them from where the library was built, such as pyarrow/x.pxi
        return not ((code_root() or Path.cwd()) / filename).is_file()
    return filename.startswith("<frozen ") or is_installed(Path(filename))


def is_generated(filename: str) -> bool:
    """Whether a frame is of no file, and was not typed by a person: a class's ``__init__`` that its decorator made."""
    return filename.startswith("<") and not filename.startswith(_TYPED)


def suggest(name: str, known: Iterable[str]) -> str:
    """The words ``did you mean 'x'?`` for the closest known name, or an empty string."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"did you mean '{close[0]}'?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Names in quotes, comma-separated, for the ``allowed`` part of an error."""
    return ", ".join(f"'{name}'" for name in names) or "nothing"


def brief(value: object) -> str:
    """A value as errors show it."""
    try:
        text = repr(value)
    except Exception:  # a user's own class, or an integer of thousands of digits
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 100 else text[:97] + "..."
