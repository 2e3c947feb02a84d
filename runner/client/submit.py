"""submit, runs, the run handle: what scripts, notebooks and the command line call."""

from __future__ import annotations

import contextlib
import dataclasses
import inspect
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from runner.backends.base import EARLY, open_backend, open_outside, place
from runner.backends.entry import PROGRAMS, PROGRAMS_FIELD
from runner.backends.local import check as local_run
from runner.client import revise
from runner.client.run import Run
from runner.code import constants, isolation, optimized, packages, references, script
from runner.code.archive import pack_run
from runner.code.hashing import identify
from runner.code.modules import MAIN, inside_of
from runner.errors import ApiError, Fenced, InputError, ProjectError, RunNotFound, StoreError, listed, suggest
from runner.plan import facts, plan
from runner.plan.project import Project, find_project, split_reference
from runner.plan.resolve import Resolved, resolve
from runner.process import interrupts
from runner.process.code_root import is_installed
from runner.process.package import PACKAGE
from runner.record import kept, origin, trust
from runner.record.bundle import CODE, LOCK, SPEC, Bundle, encoded
from runner.record.code import unpack
from runner.record.failures import amended, to_entry
from runner.record.finding import Since, Wanted, find_run, select
from runner.record.history import RunState, View, fold, unchanged
from runner.record.index import LIVE, Doing, IndexLine, new_run_id
from runner.record.receipt import end_run
from runner.record.trust import user
from runner.spec import changes as settings
from runner.spec import wire
from runner.spec.config import settled
from runner.spec.job import Cluster, Job, Prep, Train
from runner.store.store import Store
from runner.untrusted import switches
from runner.untrusted.skipped import readable
from runner.worker.processes import MARK


def submit(
    job: Job | str | Path, *, cluster: str | Cluster | None = None, store: str | None = None, inline: bool = False,
    changes: Mapping[str, Any] | None = None, force: bool | str | Collection[str] = False,
    start_from: str | None = None, start_with: str = "weights", **config: Any,
) -> Run:  # fmt: skip
    """Check a job, write its bundle and start its run; returns at once (inline: when it has ended).

    Args:
        job: a Job, the path of a file that holds one, or the stem of a file in `jobs/`; of several in a file
            ``path:name``.
        cluster: instead of the job's.
        store: the URL of the store, instead of the project's.
        inline: run every stage in this process, at world size 1 with the same global batch; the user's own exceptions
            come through.
        changes: as ``--set``: config fields and ``stage.field`` to values (strings are converted), and on Kubernetes
            ``cluster.queue`` and ``cluster.priority``.
        force: the Prep stages to make although their results exist; True: all of them.
        start_from: ``RUN`` or ``RUN:CHECKPOINT`` (best, last or a step): training begins with the weights of that
            checkpoint of another run of the store, at step 0.
        start_with: 'weights', or 'all' that is tracked by the same name: optimizers, schedulers and values as well.
        config: config fields to values.

    Raises:
        InputError: something is wrong with the input; nothing was started.
    """
    if inline:
        watch_inline(late=isinstance(job, Job))
    given = {**(changes or {}), **config}
    if not isinstance(job, Job):
        given = {name: _Carried.of(value) for name, value in given.items()}
    with isolation.isolated(keep=isinstance(job, Job)):
        prepared = prepare(
            job, cluster=cluster, store=store, changes=given, force=force, start_from=start_from, start_with=start_with
        )
        return start(prepared, inline=inline)


@dataclasses.dataclass(frozen=True)
class _Carried:
    """A value of a process whose modules are about to be imported anew, and its classes with them.

    Args:
        value: as it is.
        data: its pickle, which names its classes.
    """

    value: Any
    data: bytes

    @classmethod
    def of(cls, value: Any) -> Any:
        """`value` itself where it cannot be pickled."""
        try:
            data = pickle.dumps(value)
        except Exception:  # whatever a class says of itself; the checks of the config will name the field
            return value
        return cls(value, data)

    def again(self) -> Any:
        """The value, of the classes that this process has by their names now."""
        try:
            return pickle.loads(self.data)
        except Exception:  # a class that is gone from its file: its old one is refused where it does not fit
            return self.value


class Prepared:
    """A job that passed every check, ready to be started.

    Args:
        resolved: the job with all names resolved.
        facts: what was found of its data.
        plan: what the run will do.
        lock: of the packages that the job brings; None if it brings none.
        source: by which name the project has the job; None for a job that a script made.
        changes: to the job, as ``--set``.
        begins: from which checkpoint of another run.
        force: stages, and datasets with a `make`, that are made although they exist.
    """

    def __init__(
        self, resolved: Resolved, found: facts.Facts, made: plan.Plan, lock: str | None = None,
        source: str | None = None, changes: Mapping[str, Any] | None = None, begins: dict[str, Any] | None = None,
        force: Collection[str] = (),
    ) -> None:  # fmt: skip
        self.resolved, self.facts, self.plan, self.lock = resolved, found, made, lock
        self.source, self.changes, self.begins, self.force = source, dict(changes or {}), begins, force


def prepare(
    job: Job | str | Path, *, cluster: str | Cluster | None = None, store: str | None = None,
    changes: Mapping[str, Any] | None = None, force: bool | str | Collection[str] = False,
    start_from: str | None = None, start_with: str = "weights",
) -> Prepared:  # fmt: skip
    """Everything that is checked before anything is spent; see `submit`."""
    _refuse_while_loading()
    isolation.leave()  # files may have been edited since
    given = job
    project, job = _find(job)
    if cluster is not None:
        changes = {**(changes or {}), "cluster": cluster}
    again = {name: v.again() if isinstance(v, _Carried) else v for name, v in (changes or {}).items()}
    changes, placed = settings.of_cluster(job, again)
    job = settings.apply(job, changes)
    job = dataclasses.replace(job, config=settled(job.config, project.root))
    _check_callables(job, project)
    _check_constants(job, project)
    resolved = resolve(job, project, project.store(store))
    resolved = dataclasses.replace(resolved, cluster=settings.place(resolved.cluster, placed))
    if resolved.cluster.kubernetes is None:
        switches.check(os.environ, "your environment")
    forced = _forced(resolved, force)
    wanted = dict.fromkeys((*resolved.job.packages, *resolved.cluster.packages))
    lock = packages.lock(list(wanted)) if wanted else None
    found = facts.gather(resolved, forced, packages.versions(lock) if lock is not None else {})
    made = plan.make_plan(resolved, found)
    begins = None if start_from is None else beginning(resolved, start_from, start_with)
    return Prepared(resolved, found, made, lock, _source(given, project), changes, begins, forced)


def _forced(resolved: Resolved, force: bool | str | Collection[str]) -> list[str]:
    """The stages to make anyway; with all of them also the datasets that a function makes."""
    preps = [stage.name for stage in resolved.job.stages if isinstance(stage, Prep)]
    if force is True:
        return preps + [name for name, dataset in resolved.datasets.items() if dataset.make is not None]
    named = [force] if isinstance(force, str) else list(force or ())
    for name in named:
        if name not in preps:
            raise InputError(
                f"force='{name}'", allowed=f"a Prep stage of the job: {listed(preps)}", todo=suggest(name, preps),
                where=f"Job '{resolved.job.name}'",
            )  # fmt: skip
    return named


def watch_inline(*, late: bool) -> None:
    """Stages that run in this process run under its eyes.

    Args:
        late: the job's own modules have been loaded already.
    """
    from runner.prep import trace as prep_trace

    prep_trace.begin(late)


def start(prepared: Prepared, *, inline: bool = False) -> Run:
    """Write the bundle and start the run; see `submit`."""
    run = create(prepared, inline=inline, say=warnings.warn)
    try:
        launch(run, prepared.resolved if inline else None)
    except KeyboardInterrupt:
        run.cancel(by="Ctrl-C")  # whoever submitted it has no handle of it
        raise
    return run


def create(prepared: Prepared, *, inline: bool = False, say: Callable[[str], Any] = lambda words: None) -> Run:
    """Write the bundle: from then on the run exists, and nothing works on it until `launch`.

    Args:
        say: told what `check_machines` returns.
    """
    for words in () if inline else check_machines(prepared):
        say(words)
    if inline:
        switches.check(os.environ, "your environment")
    bundle = _write_bundle(prepared, inline=inline)
    return Run(prepared.resolved.store, bundle.run_id)


def check_machines(prepared: Prepared) -> list[str]:
    """What can be known of the machines before any is asked for. Raises InputError.

    Returns:
        What is no hindrance and should be known, in sentences.
    """
    if prepared.resolved.cluster.backend == "kuberay":
        from runner.backends.kuberay import check as kube_run

        return kube_run.check(prepared.resolved, prepared.plan)
    if prepared.resolved.cluster.address is not None:
        from runner.backends.ray import check as ray_run

        ray_run.check(prepared.resolved, prepared.plan)
    if prepared.resolved.cluster.one_machine:
        local_run.check(prepared.plan)
    return []


def launch(run: Run, inline: Resolved | None = None) -> None:
    """Set a run going, where making its bundle has not done so already (Kubernetes).

    Args:
        inline: the resolved job, to run its stages in this process; None starts a supervisor, which outlives it.

    Raises:
        ApiError: the cluster refused, or did not answer; the run has failed, and can be resumed.
    """
    if inline is not None:
        from runner.client.inline import run_inline

        run_inline(run, inline)
    elif run.spec()["cluster"]["backend"] == "fake":
        from runner.control.supervisor import Supervisor

        Supervisor(run.bundle, open_backend(run.bundle)).run()
    elif run.spec()["cluster"]["backend"] not in EARLY or fold(run.bundle.log.read()).resumed:
        try:
            with interrupts.held():
                run.launch()
        except (ApiError, InputError) as error:  # a supervisor that has come up all the same finds that end, and leaves
            told = amended(to_entry(error), before="no supervisor could be started")
            end_run(run.bundle, RunState.FAILED, told, {})
            raise


def runs(
    store: str | None = None, *, job: str | None = None, state: str | None = None, user: str | None = None,
    since: Since | None = None,
) -> list[Run]:  # fmt: skip
    """The runs of a store, oldest first.

    Args:
        store: its URL, instead of the project's.
        job: only of this job.
        state: only those that are submitted, running, cancelling, succeeded, failed, cancelled or lost.
        user: only what this user has submitted.
        since: only what was submitted since: '2d', '12h', '2026-11-20', a datetime, or a timedelta back from now.

    Raises:
        InputError: a state or a time that is none.
    """
    opened, wanted = find_project().store(store), Wanted.of(job, state, user, since)
    found = [(Run(opened, line.run_id), line) for line in select(opened, wanted)]
    return [run for run, line in found if state is None or _state_of(run, line) == state]


def _state_of(run: Run, line: IndexLine) -> str:
    return line.state if line.state != LIVE else readable(lambda: run.status, "")


def get_run(name: str, store: str | None = None) -> Run:
    """The run that `name` means: an id, a unique part of one, or ``@last``.

    Raises:
        RunNotFound: none or several fit.
    """
    opened = find_project().store(store)
    return Run(opened, find_run(opened, name))


def resume(
    run: Run, *, new_code: bool = False, changes: Mapping[str, Any] | None = None, workers: int | None = None,
    until: Mapping[str, Any] | None = None, drop: Iterable[str] = (), trust: bool = False, **config: Any,
) -> Run:  # fmt: skip
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
    run: Run, *, new_code: bool = False, changes: Mapping[str, Any] | None = None, workers: int | None = None,
    until: Mapping[str, Any] | None = None, drop: Iterable[str] = (), trusted: bool = False,
) -> Resumption:  # fmt: skip
    """Everything that is checked before a run goes on, and what would change. A lost run is ended. See `resume`."""
    sealed = origin.take(run.bundle, trusted=trusted).sealed
    view = run.reap()
    _check_resumable(run, view, until)
    with origin.acting_on(run.bundle, sealed):
        return _prepared(run, view, new_code, changes or {}, workers, until or {}, drop, sealed)


def _prepared(
    run: Run, view: View, new_code: bool, changes: Mapping[str, Any], workers: int | None, until: Mapping[str, Any],
    drop: Iterable[str], sealed: trust.Seal,
) -> Resumption:  # fmt: skip
    spec = run.spec()
    done = tuple(stage.name for stage in view.stages.values() if stage.state in ("done", "skipped"))
    again = tuple(name for name in done if name in _trainings(spec)) if until else ()
    done = tuple(name for name in done if name not in again)
    changes, drop = {**changes, **_further(run, until)}, tuple(drop)
    if drop and not new_code:
        raise InputError(
            f"drop {listed(drop)} without new code", allowed="both, or neither: the run's code has all its fields",
            todo="add --new-code (in Python new_code=True)", where=run.id,
        )  # fmt: skip
    revision = None
    if new_code or changes or workers is not None:
        revision = _revised(run, spec, new_code=new_code, changes=changes, workers=workers, drop=drop, done=done)
    _check_machines_again(run, spec if revision is None else revision.spec, done)
    return Resumption(view, sealed, revision, again)


def _revised(
    run: Run, spec: dict[str, Any], *, new_code: bool, changes: Mapping[str, Any], workers: int | None,
    drop: tuple[str, ...], done: tuple[str, ...],
) -> revise.Revision:  # fmt: skip
    project = find_project()

    def ask(project: Project, job: str | None, code: str, path: tuple[str, ...] | None = None) -> revise.Revision:
        question = revise.Question(
            spec, project, run.bundle.root, job, code, changes, workers, drop, done, path,
        )  # fmt: skip
        return revise.ask(question)

    if new_code:
        isolation.leave()  # what an earlier submit has put on the path is not this process's own
        job, path = spec.get("source"), tuple(map(os.path.abspath, sys.path))
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
    entry: dict[str, Any] = {"by": user(), "code": None}
    new_spec, new_code = None, None
    made: list[str] = []
    if resumption.again:
        entry["again"] = list(resumption.again)
    with _removed_if_refused(store, made):
        if revision is not None:
            spec = json.dumps(revision.spec, indent=1, sort_keys=True).encode()
            entry["spec"] = _create_next(store, "spec-{}.json", spec, made)
            new_spec = entry["spec"], spec
            entry["changed"] = [dataclasses.asdict(line) for line in revision.lines]
        if revision is not None and revision.code is not None:
            entry["code"] = _create_next(store, "code-{}.zip", revision.code, made)
            new_code = entry["code"], revision.code
        try:
            with origin.acting_on(run.bundle, resumption.sealed):
                entry["sealed"] = origin.resealed(run.bundle, new_spec, new_code)
        except FileNotFoundError:
            raise _removed(run) from None
        entry["signed"] = trust.sign(run.id, entry["sealed"])
    with interrupts.held():
        with _removed_if_refused(store, made):
            run.bundle.index(view.job, LIVE)  # first: a line that says so has the log looked at, whatever that says
            _take_up(run, view, entry)
        with origin.acting_on(run.bundle, entry["sealed"]):
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


def _take_up(run: Run, view: View, entry: Mapping[str, Any]) -> None:
    """Write into the log that the run goes on; of two that would, one does."""
    try:
        run.bundle.log.append("resumed", dict(entry), unchanged(view))
    except Fenced:
        found = fold(run.bundle.log.read())
        if found.removed:
            run.bundle.leave_index()
            raise _removed(run) from None
        if found.state.ended:
            run.bundle.index(found.job, str(found.state), found.seconds(found.heard))
        raise InputError(
            f"somebody else has resumed the run, and it is {found.state}", allowed="one resume at a time",
            todo=f"see `runner status {run.id}`", where=run.id,
        ) from None  # fmt: skip
    if not run.bundle.store.exists("spec.json"):  # its log had gone, and with it what says so
        run.bundle.store.delete_tree("")
        run.bundle.leave_index()
        raise _removed(run)


def _removed(run: Run) -> InputError:
    return RunNotFound("the run has been removed", allowed="a run of `runner ps`", todo="submit its job", where=run.id)


def _check_machines_again(run: Run, spec: Mapping[str, Any], done: Collection[str]) -> None:
    """As at submission, of what is left to do: it may be other workers, and the cluster another than it was."""
    cluster = wire.from_json(spec["cluster"])
    if cluster.backend not in EARLY and cluster.address is None:
        return
    if not run.is_here():
        raise InputError(
            f"the run is on {run.bundle.cluster().get('address', 'another cluster')}, which does not answer here",
            allowed="a resume from where its cluster can be asked", todo="set KUBECONFIG, or its context", where=run.id,
        )  # fmt: skip
    job, datasets = wire.from_json(spec["job"]), wire.from_json(spec["datasets"])
    resolved = Resolved(job, spec["cluster_name"], cluster, datasets, find_project(), run.bundle.root)
    left = plan.Plan.from_json(spec["plan"]).without(done)
    check_machines(Prepared(resolved, facts.Facts({}), left))


def _check_resumable(run: Run, view: View, until: Mapping[str, Any] | None) -> None:
    if view.removed:
        raise _removed(run)
    spec = run.spec()
    if view.state is RunState.SUCCEEDED:
        if until and _trainings(spec):
            return
        raise InputError(
            "the run has succeeded", allowed="a run that failed, was cancelled or was lost",
            todo="to train on from its last checkpoint say how far, by the config field that tells it: "
            f"runner resume {run.id} --until epochs=20; or begin another run from it: runner submit JOB --from {run.id}"
            if _trainings(spec) else "submit the job again: what exists is found", where=run.id,
        )  # fmt: skip
    if view.state not in (RunState.FAILED, RunState.CANCELLED):
        raise InputError(
            f"the run is {view.state}", allowed="a run that has ended", todo="cancel it first", where=run.id
        )


def _trainings(spec: Mapping[str, Any]) -> list[str]:
    return [stage["name"] for stage in spec["job"]["stages"] if stage["kind"] == "Train"]


def _further(run: Run, until: Mapping[str, Any]) -> dict[str, Any]:
    """`until` as changes. Raises InputError where a number is not beyond the one that the run has gone to."""
    values = revise.fields(run.spec())
    for name, value in until.items():
        if name not in values:
            raise InputError(
                f"until {name}={value}", allowed=listed(values),
                todo=suggest(name, values) or "name the config field that says how far the training goes", where=run.id,
            )  # fmt: skip
        with contextlib.suppress(TypeError, ValueError):
            if float(value) <= float(values[name]):
                raise InputError(
                    f"until {name}={value}", allowed=f"more than {values[name]}: so far the run was to go",
                    todo="give a larger value", where=run.id,
                )  # fmt: skip
    return {f"config.{name}": value for name, value in until.items()}


# -- checks ----------------------------------------------------------------------------------------------------------


def _refuse_while_loading() -> None:
    """A file that submits while it is being imported would start a run in every worker."""
    file = references.loading()
    if file is None and os.environ.get(MARK):
        file = str(getattr(sys.modules.get("__main__"), "__file__", "a worker"))
    if file is not None:
        raise ProjectError(
            f"{file} calls submit while it is being imported",
            allowed="submit under a guard",
            todo='put the call below `if __name__ == "__main__":`',
        )


def _find(job: Job | str | Path) -> tuple[Project, Job]:
    if isinstance(job, Job):
        return _project_of(job), job
    if not isinstance(job, str | Path):
        raise InputError(f"submit({job!r})", allowed="a Job, the path of a job file, or its stem", todo="give one")
    path = Path(split_reference(job)[0])
    project = find_project(path if path.suffix == ".py" else None)
    return project, project.job(job)


def _project_of(job: Job) -> Project:
    """Around the script that is running, if it holds the functions; else around their own files."""
    file = _caller_file()
    project = _around(file) if file is not None else find_project()
    for stage in job.stages:
        held = references.file_of(stage.fn)
        if held is not None and inside_of(held, project.root) is None:
            return _around(held)
    return project


def _around(file: Path) -> Project:
    """The project that holds a file; where there is none, what it is imported from."""
    project = find_project(file.parent)
    return project if project.found else find_project(references.folder_of(file))


def _source(given: Job | str | Path, project: Project) -> str | None:
    """By which name the project has a job, from its root: its stem, or the path of its file."""
    if isinstance(given, Job):
        return None
    text, name = split_reference(given)
    inside = inside_of(Path(text), project.root) if text.endswith(".py") else None
    return f"{text if inside is None else inside}{f':{name}' if name else ''}"


def _caller_file() -> Path | None:
    """The script that is running, if there is one."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file is None or not Path(file).is_file() or Path(file).resolve().is_relative_to(PACKAGE):
        return None
    path = Path(file).resolve()
    return None if is_installed(path) or path.parent == Path(sys.executable).parent else path


def _check_callables(job: Job, project: Project) -> None:
    """Every function must be loadable by another process, and take the arguments that it will be given."""
    for stage in job.stages:
        where = f"{type(stage).__name__} '{stage.name}', field 'fn'"
        found = references.reference(stage.fn, project.root, where)
        if found.module == MAIN:
            script.refuse_unguarded(PACKAGE)
        if inspect.isfunction(stage.fn):
            _check_arguments(stage.fn, where)
        if isinstance(stage, Prep) and stage.keep is not None:
            references.reference(stage.keep, project.root, f"Prep '{stage.name}', field 'keep'")


def _check_constants(job: Job, project: Project) -> None:
    """What preparations reach is in this process as workers will import it: with `inline` it makes their results."""
    for stage in job.stages:
        if isinstance(stage, Prep):
            used = [stage.fn] if stage.keep is None else [stage.fn, stage.keep]
            where = f"Prep '{stage.name}', field 'fn'"
            constants.refuse_other_constants(identify(used, project.root), project.root, where)


def _check_arguments(function: Any, where: str) -> None:
    try:
        inspect.signature(function).bind(None, None)
    except TypeError as error:
        shown = f"{function.__name__}{inspect.signature(function)}"
        expected = "(ctx, config)" if where.startswith("Train") else "(batch, config)"
        raise InputError(
            f"{shown}: {error}", allowed=f"a function of {expected}", todo="change it", where=where
        ) from None


def beginning(resolved: Resolved, start_from: str, start_with: str) -> dict[str, Any]:
    """Which checkpoint each training stage begins with: that of the stage of its name, or of the only one that has any.

    Raises:
        InputError: no such run or checkpoint, or none that belongs to a stage of the job.
    """
    if start_with not in ("weights", "all"):
        raise InputError(f"start_with={start_with!r}", allowed="'weights' or 'all'", todo="choose one of them")
    name, _, which = start_from.partition(":")
    run = Run(resolved.store, find_run(resolved.store, name))
    trainings = [stage.name for stage in resolved.job.stages if isinstance(stage, Train)]
    found = run.checkpoints()
    there = list(dict.fromkeys(each.stage for each in found))
    if not there:
        raise InputError(
            f"the run {run.id} has no checkpoints", allowed="a run whose training has published one",
            todo="see `runner checkpoints` of another run", where="start_from",
        )  # fmt: skip
    pairs = {stage: stage for stage in trainings if stage in there}
    if not pairs and len(there) == len(trainings) == 1:
        pairs = {trainings[0]: there[0]}
    if not pairs:
        raise InputError(
            f"the run {run.id} has checkpoints of {listed(there)}", allowed=f"a stage of this job: {listed(trainings)}",
            todo="name the training stage so, or begin from another run", where="start_from",
        )  # fmt: skip
    stages = {}
    for stage, other in pairs.items():
        chosen = kept.choose([each for each in found if each.stage == other], which or "last", run.id)
        stages[stage] = {
            "run": run.id, "stage": other, "key": chosen.key, "step": chosen.step, "sha256": chosen.sha256,
            "all": start_with == "all",
        }  # fmt: skip
    return {"run": run.id, "stages": stages}


# -- the bundle ------------------------------------------------------------------------------------------------------


def _write_bundle(prepared: Prepared, *, inline: bool) -> Bundle:
    """Everything that the run is, then its first log entry: it exists from that on, whole, or not at all."""
    resolved = prepared.resolved
    root = resolved.project.root
    store = resolved.store
    spec = {
        "job": wire.to_json(resolved.job, root),
        "datasets": wire.to_json(resolved.datasets, root),
        "cluster_name": resolved.cluster_name,
        "cluster": wire.to_json(resolved.cluster, root),
        "force": list(prepared.force),
        optimized.FIELD: optimized.level(),
        PROGRAMS_FIELD: PROGRAMS,
        "legs": [list(leg) for leg in prepared.plan.legs],
        "plan": prepared.plan.to_json(),
        "lineage": _lineage(root),
        "source": prepared.source,
        "start_from": prepared.begins,
        "changes": settings.to_json(prepared.changes),
    }
    parts = {CODE: pack_run(resolved.project, spec, store)}
    if prepared.lock is not None:
        parts[LOCK] = prepared.lock.encode()
    sealed = trust.seal({SPEC: encoded(spec), **parts})
    while True:
        bundle = Bundle(store, new_run_id(resolved.job.name), sealed)
        signed = trust.sign(bundle.run_id, sealed)
        try:
            if not bundle.write_spec(spec):
                continue  # the name of another run
            for key, data in parts.items():
                bundle.store.put(key, data)
            for key, manifest in prepared.facts.manifests.items():
                bundle.store.put(key, manifest)
            submitted = {"job": resolved.job.name, "legs": spec["legs"], "by": user(), "inline": inline}
            submitted.update(sealed=sealed, signed=signed)
            if resolved.cluster.backend in EARLY and not inline:
                open_outside(bundle).launch()
            where = "" if inline else place(bundle)
            doing = Doing(str(RunState.SUBMITTED), "", where) if where else None
            bundle.index(resolved.job.name, LIVE, time.time() if doing else 0.0, doing)
            bundle.submit(submitted)
        except BaseException:
            _remove_half_made(bundle, resolved.job.name)
            raise
        return bundle


def _remove_half_made(bundle: Bundle, job: str) -> None:
    """Nothing of a run stays that could not be written whole. A store that refuses even that keeps what it has.

    Where its machines' API does not answer, its supervisor may be there, and removes all of it.
    """
    with contextlib.suppress(StoreError, ApiError):
        with contextlib.suppress(FileNotFoundError):
            if bundle.spec()["cluster"]["backend"] in EARLY and bundle.cluster():
                open_outside(bundle).remove()
        bundle.store.delete_tree("")
        bundle.leave_index()


def _lineage(root: Path) -> dict[str, Any]:
    """Who ran what with which versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for name in ("torch", "ray", "pyarrow", "fsspec", "numpy"):
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    done = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return {
        "python": sys.version.split()[0], "packages": versions, "git": done.stdout.strip() or None,
        "host": os.uname().nodename, "user": user(),
    }  # fmt: skip


__all__ = ["Prepared", "Run", "Store", "get_run", "prepare", "resume", "runs", "start", "submit"]
