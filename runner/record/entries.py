"""What the log of a run tells: one class for each kind of entry, written and read by the same fields.

Only fields that some reader uses, or that somebody looks for in a bundle, are there. Entries of other kinds may be in a
log as well, see `events.Unknown`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from runner.errors import Cause
from runner.record.failures import Failure, cause_of
from runner.store.events import Event, kinds_of
from runner.untrusted.names import ATTEMPT, CHECKPOINT, CODE_FILE, DATASET, JOB, SPEC_FILE, STAGE, STEP, VERSION
from runner.untrusted.shapes import Misshapen, anything, named, number, one_of, value, whole
from runner.untrusted.typed import Excerpt, Key, sparse

_CHECKPOINTS = "checkpoints/"


def checkpoint_key(value: object, at: str) -> None:
    """The folder of a checkpoint in a bundle."""
    stage, _, name = str(value).removeprefix(_CHECKPOINTS).partition("/")
    if not (str(value).startswith(_CHECKPOINTS) and STAGE.fits(stage) and CHECKPOINT.fits(name)):
        raise Misshapen(f"{at} is no folder of a checkpoint, such as checkpoints/train/000000120-1")


StageName = Annotated[str, named(STAGE)]
DatasetName = Annotated[str, named(DATASET)]
Leg = Annotated[int, whole(0, 9999)]
Attempt = Annotated[int, whole(0, 10**ATTEMPT.longest - 1)]
Step = Annotated[int, whole(0, 10**STEP.longest - 1)]
Measured = Annotated[float, value]
Counted = Annotated[float, number(-1.0)] | None  # rows of lines may be uncounted, which is -1
Legs = tuple[tuple[StageName, ...], ...]
CheckpointKey = Annotated[str, checkpoint_key]


@dataclass(frozen=True)
class StageResult(Excerpt):
    """What a stage says at its end: a preparation of rows and datasets, a training of steps, metrics and checkpoints.

    Args:
        raw: all of it, as `Run.results` gives it.
    """

    skipped: bool = False
    seconds: float = 0.0
    key: str | None = None
    outputs: Mapping[DatasetName, Annotated[str, named(VERSION)]] = field(default_factory=dict)
    places: Mapping[DatasetName, str] = field(default_factory=dict)
    rows_in: Counted = None
    processed: Counted = None
    filtered: Counted = None
    quarantined: Counted = None
    bytes_in: Counted = None
    bytes_out: Counted = None
    rows_out: Mapping[str, Annotated[float, number(-1.0)]] = field(default_factory=dict)
    tasks: Counted = None
    tasks_reused: Counted = None
    notes: tuple[str, ...] = ()
    metrics: Mapping[str, Measured] | None = None
    steps: Annotated[int | None, whole()] = None
    epochs: float = 0.0
    samples: int = 0
    checkpoint: str | None = None
    best: str | None = None


# -- the client ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Submitted(Event, kind="submitted"):
    """The first entry, from which on the run exists.

    Args:
        legs: the stages that share machines, in their order.
        sealed: what spec, code and lock must be; `signed` with the key of whoever says so.
    """

    job: Annotated[str, named(JOB)]
    legs: Legs
    by: str | None = None
    inline: bool = False
    sealed: Any = None
    signed: str | None = None


@dataclass(frozen=True)
class GivenUp(Event, kind="given-up"):
    """The first and only entry of a run that was given up before it existed."""


@dataclass(frozen=True)
class CancelAsked(Event, kind="cancel"):
    """Somebody wants the run to end."""

    by: str = ""


@dataclass(frozen=True)
class Resumed(Event, kind="resumed"):
    """The run goes on.

    Args:
        code, spec: the keys of newer ones, where the resume brought them.
        again: stages that were done, and are to go on.
        changed: what differs, in lines for people.
    """

    by: str | None = None
    code: Annotated[str, named(CODE_FILE)] | None = None
    spec: Annotated[str, named(SPEC_FILE)] | None = sparse(None)
    again: tuple[StageName, ...] | None = sparse(None)
    changed: Any = sparse(None)
    sealed: Any = None
    signed: str | None = None


@dataclass(frozen=True)
class Reaping(Event, kind="reaping"):
    """A client has begun to remove what a lost run left, and will end it."""


@dataclass(frozen=True)
class Removed(Event, kind="removed"):
    """The run is being removed for good."""


# -- the supervisor --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SupervisorBegan(Event, kind="supervisor"):
    """A process sees to the run; what tells it from any other, see `liveness`.

    Args:
        machine, boot, space: of its process id; empty where they are not known.
        held: whether it has locked the run's file.
        inline: whether it is the user's own process.
    """

    host: str
    pid: Annotated[int, whole(1, 2**31)]
    started: float
    machine: str = ""
    boot: str = ""
    space: str = ""
    held: bool = False
    inline: bool = sparse(False)


@dataclass(frozen=True)
class SupervisorFailed(Event, kind="supervisor-error"):
    """It ended with an error; where its Job starts another, that goes on."""

    message: str = ""
    error_class: Annotated[str, Key("class")] = ""
    trace: str | None = None
    rank: Any = None
    parts: Any = sparse(None)
    named: Annotated[str, Key("cause")] = sparse("")

    @property
    def cause(self) -> Cause:
        """What made it fail."""
        return cause_of(self.error_class, self.named)


@dataclass(frozen=True)
class AttemptBegan(Event, kind="attempt"):
    """An attempt at a leg begins, perhaps `because` machines of the one before were lost, by these causes."""

    leg: Leg
    attempt: Attempt
    because: str = sparse("")
    causes: tuple[str, ...] = sparse(())


@dataclass(frozen=True)
class Prepared(Event, kind="prepared"):
    """The machines of a leg were asked for while the one before still works."""

    leg: Leg
    attempt: Attempt = sparse(1)


@dataclass(frozen=True)
class Failing(Event, kind="failing"):
    """The supervisor has begun to end the run with this error."""

    error: Failure


@dataclass(frozen=True)
class Ended(Event, kind="ended"):
    """The receipt: how the run ended, what it took, and what is left of its machines.

    Args:
        teardown_s: seconds until its machines were asked to go, and were gone.
        gpu_seconds_used: in which a stage was at work on its GPUs.
    """

    state: Annotated[str, one_of("succeeded", "failed", "cancelled")]
    error: Failure | None = None
    seconds: float = 0.0
    stage_seconds: Annotated[Mapping[str, float], anything] = field(default_factory=dict)
    remains: Annotated[Mapping[str, Any], anything] = field(default_factory=dict)
    teardown_s: Annotated[Mapping[str, float] | None, anything] = sparse(None)
    gpu_seconds_used: Annotated[float | None, anything] = sparse(None)


# -- the driver ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DriverBegan(Event, kind="driver"):
    """The attempt's machines are there, and its driver has begun."""

    leg: Leg
    attempt: Attempt
    host: str = ""


@dataclass(frozen=True)
class DriverFailed(Event, kind="driver-failed"):
    """The driver failed outside of its stages."""

    leg: Leg
    attempt: Attempt
    error: Failure


@dataclass(frozen=True)
class DriverLeft(Event, kind="driver-left"):
    """The driver has written all that it will ever write."""

    leg: Leg
    attempt: Attempt


@dataclass(frozen=True)
class LegDone(Event, kind="leg-done"):
    """All stages of the leg are done."""

    leg: Leg
    attempt: Attempt


@dataclass(frozen=True)
class DatasetMade(Event, kind="dataset-made"):
    """A dataset's `make` has given this version, or it was `skipped`, for its result was there."""

    name: DatasetName
    id: Annotated[str, named(VERSION)] = sparse("")
    skipped: Annotated[bool, anything] = False
    key: Annotated[str, anything] = sparse("")
    rows: Annotated[int, anything] = 0
    bytes: Annotated[int, anything] = 0
    files: Annotated[int, anything] = 0
    seconds: Annotated[float, anything] = 0.0


@dataclass(frozen=True)
class StageStarted(Event, kind="stage-started"):
    """A stage begins in an attempt."""

    stage: StageName
    attempt: Attempt


@dataclass(frozen=True)
class NearlyDone(Event, kind="nearly-done"):
    """The attempt foresees its end, in so many seconds."""

    stage: Annotated[str, anything] = sparse("")
    left_s: Annotated[float, anything] = sparse(0.0)


@dataclass(frozen=True)
class CheckpointPublished(Event, kind="checkpoint"):
    """A checkpoint exists.

    Args:
        key: of its folder.
        best: whether it was the best of its stage so far.
        sha256: of its manifest.
    """

    stage: StageName
    step: Step
    key: CheckpointKey
    metrics: Mapping[str, Measured]
    best: bool
    sha256: str


@dataclass(frozen=True)
class StageDone(Event, kind="stage-done"):
    """A stage has succeeded, or was skipped."""

    stage: StageName
    result: StageResult
    attempt: Attempt = 0


@dataclass(frozen=True)
class StageFailed(Event, kind="stage-failed"):
    """A stage has failed, and with it the attempt."""

    stage: StageName
    error: Failure
    attempt: Attempt = 0


KINDS = kinds_of(
    Submitted,
    GivenUp,
    CancelAsked,
    Resumed,
    Reaping,
    Removed,
    SupervisorBegan,
    SupervisorFailed,
    AttemptBegan,
    Prepared,
    Failing,
    Ended,
    DriverBegan,
    DriverFailed,
    DriverLeft,
    LegDone,
    DatasetMade,
    StageStarted,
    NearlyDone,
    CheckpointPublished,
    StageDone,
    StageFailed,
)
