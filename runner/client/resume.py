"""Going on with a run that has ended: what is checked, what changes, and taking it up again."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.backends.registry import kind_of
from runner.client import revise
from runner.client.prepare import Prepared
from runner.client.run import Run
from runner.client.submit import check_machines, launch
from runner.code import isolation
from runner.errors import Fenced, InputError, RunNotFound, StoreError, listed, suggest
from runner.plan import facts, plan
from runner.plan.project import Project, find_project
from runner.plan.resolve import Resolved
from runner.process import interrupts
from runner.record import RunState, View, fold, origin, trust
from runner.record.code import unpack
from runner.record.entries import Resumed
from runner.record.history import unchanged
from runner.record.index import LIVE
from runner.record.run_spec import RunSpec
from runner.record.trust import user
from runner.spec import wire
from runner.store import Store


def resume(
    run: Run,
    *,
    new_code: bool = False,
    changes: Mapping[str, Any] | None = None,
    workers: int | None = None,
    until: Mapping[str, Any] | None = None,
    drop: Iterable[str] = (),
    trust: bool = False,
    **config: Any,
) -> Run:
    """Go on with a run that ended: done stages stay done, training goes on at the exact sample.

    Args:
        new_code: take the project's files as they are now instead of as they were at submission: functions, and, of a
            job that is in a file, its stages and config as well. What `submit` was told to change stays changed.
        changes: as ``--set``: config fields and ``stage.field`` to values.
        workers: ranks of the training stage.
        until: config fields that say how far the training goes, to values beyond the run's: a training that was done
            goes on from its last checkpoint. Only so is a run resumed that has succeeded.
        drop: config fields that the new code has no more, on purpose.
        trust: also a run that somebody else has submitted: its code and its cluster's settings are taken as they are.
        config: config fields to values.

    Raises:
        NotYours: the run is not signed by this user, and `trust` is not given.
        InputError: the run is still working; it succeeded, and `until` is not given; or a change does not fit.
    """
    given = {**(changes or {}), **config}
    resumption = prepare_resume(
        run, new_code=new_code, changes=given, workers=workers, until=until, drop=drop, trusted=trust
    )
    return go_on(run, resumption)


@dataclasses.dataclass(frozen=True)
class Resumption:
    """A resume that passed every check, ready to be started.

    Args:
        view: of the run, as it was checked.
        sealed: what was checked of its bundle.
        revision: what changes, newer code included; None where the run goes on as it was.
        again: trainings that are done, and go on.
    """

    view: View
    sealed: trust.Seal
    revision: revise.Revision | None = None
    again: tuple[str, ...] = ()


def prepare_resume(
    run: Run,
    *,
    new_code: bool = False,
    changes: Mapping[str, Any] | None = None,
    workers: int | None = None,
    until: Mapping[str, Any] | None = None,
    drop: Iterable[str] = (),
    trusted: bool = False,
) -> Resumption:
    """Everything that is checked before a run goes on, and what would change. A lost run is ended. See `resume`."""
    sealed = origin.take(run.bundle, trusted=trusted).sealed
    view = run.reap()
    _check_resumable(run, view, until)
    with origin.acting_on(run.bundle, sealed):
        return _prepared(run, view, new_code, changes or {}, workers, until or {}, drop, sealed)


def _prepared(
    run: Run,
    view: View,
    new_code: bool,
    changes: Mapping[str, Any],
    workers: int | None,
    until: Mapping[str, Any],
    drop: Iterable[str],
    sealed: trust.Seal,
) -> Resumption:
    spec = run.bundle.known_spec()
    done = tuple(stage.name for stage in view.stages.values() if stage.state in ("done", "skipped"))
    again = tuple(name for name in done if name in spec.trainings) if until else ()
    done = tuple(name for name in done if name not in again)
    changes, drop = {**changes, **_further(run, until)}, tuple(drop)
    if drop and not new_code:
        raise InputError(
            f"drop {listed(drop)} without new code",
            allowed="both, or neither: the run's code has all its fields",
            todo="add --new-code (in Python new_code=True)",
            where=run.id,
        )
    revision = None
    if new_code or changes or workers is not None:
        revision = _revised(run, spec, new_code=new_code, changes=changes, workers=workers, drop=drop, done=done)
    _check_machines_again(run, spec if revision is None else revision.spec, done)
    return Resumption(view, sealed, revision, again)


def _revised(
    run: Run,
    spec: RunSpec,
    *,
    new_code: bool,
    changes: Mapping[str, Any],
    workers: int | None,
    drop: tuple[str, ...],
    done: tuple[str, ...],
) -> revise.Revision:
    project = find_project()

    def ask(project: Project, job: str | None, code: str, path: tuple[str, ...] | None = None) -> revise.Revision:
        question = revise.Question(
            spec,
            project,
            run.bundle.root,
            job,
            code,
            changes,
            workers,
            drop,
            done,
            path,
        )
        return revise.ask(question)

    if new_code:
        isolation.leave()  # what an earlier submit has put on the path is not this process's own
        job, path = spec.source, tuple(map(os.path.abspath, sys.path))
        return ask(project, job, job if job is not None else "the project's code now", path)
    with tempfile.TemporaryDirectory(prefix="runner-resume-") as folder:
        unpack(run.bundle, Path(folder))
        return ask(dataclasses.replace(project, root=Path(folder).resolve()), None, "the run's code")


def go_on(run: Run, resumption: Resumption) -> Run:
    """Resume a run as it was prepared: whole, or not at all.

    Raises:
        InputError: somebody else has resumed or removed it since.
    """
    store, view, revision = run.bundle.store, resumption.view, resumption.revision
    event = Resumed(user(), again=tuple(resumption.again) or None)
    new_spec, new_code = None, None
    made: list[str] = []
    with _removed_if_refused(store, made):
        if revision is not None:
            spec = json.dumps(revision.spec.to_json(), indent=1, sort_keys=True).encode()
            new_spec = _create_next(store, "spec-{}.json", spec, made), spec
            changed = [dataclasses.asdict(line) for line in revision.lines]
            event = dataclasses.replace(event, spec=new_spec[0], changed=changed)
        if revision is not None and revision.code is not None:
            new_code = _create_next(store, "code-{}.zip", revision.code, made), revision.code
            event = dataclasses.replace(event, code=new_code[0])
        try:
            with origin.acting_on(run.bundle, resumption.sealed):
                sealed = origin.resealed(run.bundle, new_spec, new_code)
        except FileNotFoundError:
            raise _removed(run) from None
        event = dataclasses.replace(event, sealed=sealed, signed=trust.sign(run.id, sealed))
    with interrupts.held():
        with _removed_if_refused(store, made):
            run.bundle.index(view.job, LIVE)  # first: a line that says so has the log looked at, whatever that says
            _take_up(run, view, event)
        with origin.acting_on(run.bundle, sealed):
            launch(run)
    return run


@contextlib.contextmanager
def _removed_if_refused(store: Store, made: list[str]) -> Iterator[None]:
    """What a resume has written goes again where it does not come to be."""
    try:
        yield
    except BaseException:
        for key in made:
            with contextlib.suppress(StoreError):
                store.delete(key)
        raise


def _create_next(store: Store, name: str, data: bytes, made: list[str]) -> str:
    """Create a file under its next free number, from 2: what another resume has written is its own."""
    number = 2
    while not store.create(key := name.format(number), data):
        number += 1
    made.append(key)
    return key


def _take_up(run: Run, view: View, event: Resumed) -> None:
    """Write into the log that the run goes on; of two that would, one does."""
    try:
        run.bundle.log.append(event, unchanged(view))
    except Fenced:
        found = fold(run.bundle.log.read())
        if found.removed:
            run.bundle.leave_index()
            raise _removed(run) from None
        if found.state.ended:
            run.bundle.index(found.job, str(found.state), found.seconds(found.heard))
        raise InputError(
            f"somebody else has resumed the run, and it is {found.state}",
            allowed="one resume at a time",
            todo=f"see `runner status {run.id}`",
            where=run.id,
        ) from None
    if not run.bundle.store.exists("spec.json"):  # its log had gone, and with it what says so
        run.bundle.store.delete_tree("")
        run.bundle.leave_index()
        raise _removed(run)


def _removed(run: Run) -> InputError:
    return RunNotFound("the run has been removed", allowed="a run of `runner ps`", todo="submit its job", where=run.id)


def _check_machines_again(run: Run, spec: RunSpec, done: Collection[str]) -> None:
    """As at submission, of what is left to do: it may be other workers, and the cluster another than it was."""
    cluster = wire.from_json(spec.cluster.raw)
    kind_of(cluster)  # one that is not known here says more than that it does not answer
    if not run.is_here():
        raise InputError(
            f"the run is on {run.bundle.cluster().address or 'another cluster'}, which does not answer here",
            allowed="a resume from where its cluster can be asked",
            todo="set KUBECONFIG, or its context",
            where=run.id,
        )
    job, datasets = wire.from_json(spec.job.raw), wire.from_json(spec.datasets)
    resolved = Resolved(job, spec.cluster_name, cluster, datasets, find_project(), run.bundle.root)
    left = plan.Plan.from_json(spec.plan.raw).without(done)
    check_machines(Prepared(resolved, facts.Facts({}), left, run.bundle.lock()))


def _check_resumable(run: Run, view: View, until: Mapping[str, Any] | None) -> None:
    if view.removed:
        raise _removed(run)
    trainings = run.bundle.known_spec().trainings
    if view.state is RunState.SUCCEEDED:
        if until and trainings:
            return
        raise InputError(
            "the run has succeeded",
            allowed="a run that failed, was cancelled or was lost",
            todo="to train on from its last checkpoint say how far, by the config field that tells it: "
            f"runner resume {run.id} --until epochs=20; or begin another run from it: runner submit JOB --from {run.id}"
            if trainings
            else "submit the job again: what exists is found",
            where=run.id,
        )
    if view.state not in (RunState.FAILED, RunState.CANCELLED):
        raise InputError(
            f"the run is {view.state}", allowed="a run that has ended", todo="cancel it first", where=run.id
        )


def _further(run: Run, until: Mapping[str, Any]) -> dict[str, Any]:
    """`until` as changes. Raises InputError where a number is not beyond the one that the run has gone to."""
    values = revise.fields(run.bundle.known_spec())
    for name, value in until.items():
        if name not in values:
            raise InputError(
                f"until {name}={value}",
                allowed=listed(values),
                todo=suggest(name, values) or "name the config field that says how far the training goes",
                where=run.id,
            )
        with contextlib.suppress(TypeError, ValueError):
            if float(value) <= float(values[name]):
                raise InputError(
                    f"until {name}={value}",
                    allowed=f"more than {values[name]}: so far the run was to go",
                    todo="give a larger value",
                    where=run.id,
                )
    return {f"config.{name}": value for name, value in until.items()}
