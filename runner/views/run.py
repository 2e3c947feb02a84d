"""One run at one moment, with all that a screen may show of it. Reading it changes nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from runner.client.run import Run
from runner.errors import ApiError, InputError, InternalError, StoreError
from runner.record import RunState, StageView, View, failures, kept
from runner.record.entries import StageResult
from runner.record.kept import Checkpoint
from runner.record.reasons import Reason
from runner.record.run_spec import Beginning
from runner.untrusted.names import ARTEFACT
from runner.views.now import progress_now
from runner.views.progress import Progress


@dataclass(frozen=True)
class StageSeen:
    """A stage.

    Args:
        started: seconds since 1970; None where it has not begun.
        seconds: that it took, or has taken so far.
        progress: of one that is running.
        result: as the stage has recorded it; None before.
        data: dataset of the store -> the URL of what the stage has published in it, and its rows.
        began_from: the run and the step of the checkpoint that it began from, if it was another run's.
        checkpoints: those that are there.
        saved: names of what `ctx.save` kept, in the folder `artefacts`.
    """

    name: str
    state: str
    attempt: int
    started: float | None
    seconds: float | None
    progress: Progress | None
    result: StageResult | None
    data: Mapping[str, tuple[str, float]]
    began_from: tuple[str, int] | None
    checkpoints: tuple[Checkpoint, ...]
    artefacts: str
    saved: tuple[str, ...]


@dataclass(frozen=True)
class RunSeen:
    """A run.

    Args:
        submitted, resumed, ended: seconds since 1970.
        seconds: that it took, or has taken so far.
        reasons: what it waits for; nothing where its machines cannot be asked from here.
        error: as the log keeps it.
        bundle, store: URLs.
        at: when it was looked at.
    """

    id: str
    job: str
    state: RunState
    cluster: str
    submitted: float
    resumed: float | None
    ended: float | None
    seconds: float
    stages: tuple[StageSeen, ...]
    reasons: tuple[Reason, ...]
    error: failures.Failure | None
    bundle: str
    store: str
    at: float

    @property
    def failure(self) -> Failure | None:
        """Why it has failed, or was lost; None where it has not."""
        return None if self.error is None else Failure.of(self.id, self.state, self.error)

    @property
    def trained(self) -> bool:
        """Whether a stage has metrics to look at."""
        return any(stage.result is not None and stage.result.metrics is not None for stage in self.stages)


@dataclass(frozen=True)
class Failure:
    """What ended a run.

    Args:
        trace: the user's traceback, with the files of the project by their place in it; "" where there is none.
        stage, rank: where it was raised, if that is known.
        message: what is wrong; its first line says it in short.
        lost: nothing was raised: the supervisor is gone.
        bug: it is runner's own.
    """

    trace: str
    stage: str | None
    rank: int | None
    message: str
    lost: bool
    bug: bool

    @classmethod
    def of(cls, run_id: str, state: RunState, error: failures.Failure) -> Failure:
        """The error of a log's entry."""
        # The code lay in a temporary folder while it ran; the user knows its files by their place in the project.
        trace = re.sub(rf'"[^"\n]*/{re.escape(run_id)}/code/', '"', (error.trace or "").rstrip("\n"))
        lost, bug = state is RunState.LOST, error.is_a(InternalError)
        return cls(trace, error.stage, error.rank, error.message, lost, bug)


def see(run: Run, view: View, now: float) -> RunSeen:
    """All of a run that has this history, at a moment in seconds since 1970."""
    spec = run.bundle.known_spec()
    return RunSeen(
        run.id,
        view.job,
        view.state,
        spec.cluster_name,
        view.created,
        view.resumed,
        view.ended,
        view.seconds(now),
        tuple(_stage(run, view, stage, spec.beginning(stage.name), now) for stage in view.stages.values()),
        tuple(reasons(run, view)),
        view.error,
        run.bundle.store.url,
        run.bundle.root.url,
        now,
    )


def reasons(run: Run, view: View) -> list[Reason]:
    """As `Run.why`; none where the machines cannot be asked from here: it is no fault of who asks for the bundle."""
    try:
        return run.why(view)
    except StoreError:
        raise
    except (ApiError, InputError):  # InputError: no kubeconfig that leads to the cluster
        return []


def _stage(run: Run, view: View, stage: StageView, began: Beginning | None, now: float) -> StageSeen:
    folder = run.bundle.artefacts(stage.name)
    return StageSeen(
        stage.name,
        stage.state,
        stage.attempt,
        stage.started or None,
        (stage.ended or now) - stage.started if stage.started else None,
        progress_now(run, stage) if stage.state == "running" else None,
        stage.result,
        _data(run, stage.result),
        (began.run, began.step) if began else None,
        tuple(each for each in kept.checkpoints(run.bundle, view, stage.name) if each.exists),
        f"{run.bundle.store.url}/{folder}",
        tuple(name for name in run.bundle.store.list(folder) if ARTEFACT.fits(name)),
    )


def _data(run: Run, result: StageResult | None) -> dict[str, tuple[str, float]]:
    if result is None:
        return {}
    return {
        name: (f"{run.bundle.root.url}/{result.places.get(name, name)}", rows)
        for name, rows in zip(result.outputs, result.rows_out.values(), strict=False)
    }
