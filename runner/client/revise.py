"""What a resume changes of a run: other values, other workers, or the project's files as they are now.

It is worked out in a process of its own whose project is the code in question: that code is imported whole and anew,
and nothing of it stays behind in the process that asks.

python -m runner.client.revise FOLDER, where FOLDER has the question and gets the answer, each a pickle.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from runner.backends.entry import PROGRAMS
from runner.backends.registry import kind_of
from runner.code import archive, optimized, references
from runner.code.imported import import_folders
from runner.code.modules import set_main
from runner.errors import InputError, RunFailed, brief, listed, suggest
from runner.plan import plan, resolve
from runner.plan.project import Project
from runner.plan.resolve import Resolved
from runner.process.code_root import arranged
from runner.record.run_spec import RunSpec
from runner.spec import Job, Prep, Train, wire
from runner.spec import changes as spec_changes
from runner.spec.config import config_from_json
from runner.store import Store
from runner.values import records
from runner.values.tagged import TAG

FILE, BUNDLE, SET, SUBMITTED = "the file now", "the run", "this resume", "--set of the submission"
ABSENT = "-"
_PROGRAM = f"{__package__}.revise"


@dataclass(frozen=True)
class Question:
    """What to change of a run.

    Args:
        spec: of the run.
        project: whose root has the code in question.
        store: of the run.
        job: by which name the project has the job; None: the job is that of the run, and only its code may be newer.
        code: what the code is, in words.
        changes: as ``--set``, of this resume.
        workers: ranks of the training stage.
        dropped: config fields that the code has no more, on purpose.
        done: stages that are done.
        path: of modules, in the process that asks, where the code is the project's of now; None: it is the run's own.
    """

    spec: RunSpec
    project: Project
    store: Store
    job: str | None
    code: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    workers: int | None = None
    dropped: tuple[str, ...] = ()
    done: tuple[str, ...] = ()
    path: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Line:
    """One thing that differs: what, how it was and is now, and where that comes from."""

    what: str
    was: str
    now: str
    source: str


@dataclass(frozen=True)
class Revision:
    """The spec with which a run goes on, and what differs in it.

    Args:
        code: the archive of the project's files as they are now, where those were asked about.
    """

    spec: RunSpec
    lines: tuple[Line, ...]
    code: bytes | None = field(default=None, repr=False)


def ask(question: Question) -> Revision:
    """Answer a question in a process of its own.

    Raises:
        InputError: a field that there is not, a value that does not fit, or a job that has other stages.
    """
    with tempfile.TemporaryDirectory(prefix="runner-revise-") as folder:
        (Path(folder) / "question").write_bytes(pickle.dumps(question))
        # -P: a module of the project that is called like one of the standard library must not stand before that
        words = [sys.executable, "-P", "-m", _PROGRAM, folder]
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            cwd=question.project.root,
            env=optimized.environment(os.environ, question.spec.optimized),
        )
        answer = Path(folder) / "answer"
        if not answer.exists():
            raise RunFailed(f"the code could not be loaded: {(done.stderr or done.stdout).strip()[-2000:]}")
        found = pickle.loads(answer.read_bytes())
    if isinstance(found, Exception):
        raise found
    assert isinstance(found, Revision)
    return found


def answer(question: Question) -> Revision:
    """Answer a question in this process, which imports the code. See `ask`."""
    _find_modules(question)
    before = wire.from_json(question.spec.job.raw)
    if question.job is None:
        resolved, origins = _as_it_was(question), dict[str, str]()
    else:
        resolved, origins = _from_file(question, before)
    _check_stages(question, before, resolved.job)
    spec = _spec(question, resolved)
    lines = tuple(_lines(question, spec, before, resolved.job, origins))
    if question.path is not None:
        spec = spec.but(entry=PROGRAMS)  # runner itself travels with the code, this one now
    return Revision(spec, lines, None if question.path is None else _packed(question, spec))


def _find_modules(question: Question) -> None:
    """Have this process find the modules of the code: the run's as its workers do, a job's file as a submit does."""
    root = question.project.root
    if question.path is not None:
        functions = archive.functions_of(question.spec.raw) if question.job is None else []
        entries = [Path(function.file) for function in functions if function.file is not None]
        sys.path[:] = question.path
        sys.path[:] = arranged(sys.path, root, import_folders(root, entries))
    if question.job is None:
        references.set_code_root(root)


def _packed(question: Question, spec: RunSpec) -> bytes:
    """The archive, as a submit makes it, in a process that has loaded the job."""
    if question.job is None:
        for function in archive.functions_of(spec.raw):
            references.resolve(function)
    remote = kind_of(wire.from_json(spec.cluster.raw)).remote
    return archive.pack_run(question.project, spec.raw, question.store, remote=remote)


# -- the job ---------------------------------------------------------------------------------------------------------


def _as_it_was(question: Question) -> Resolved:
    """The job of the run, with the changes."""
    spec = question.spec
    raw = spec.job.config
    job = dataclasses.replace(wire.from_json(spec.job.raw), config=config_from_json(raw))
    _check_fields(question, job.config)
    job = spec_changes.apply(job, _changes(question, job))
    cluster = wire.from_json(spec.cluster.raw)
    resolve.check_groups(job, spec.cluster_name, cluster)
    datasets = wire.from_json(spec.datasets)
    return Resolved(job, spec.cluster_name, cluster, datasets, question.project, question.store)


def _from_file(question: Question, before: Job) -> tuple[Resolved, dict[str, str]]:
    """The job of the file, with the changes of the submission and of this resume; its cluster stays that of the run.

    Returns:
        The job resolved, and which names were changed at the submission.
    """
    assert question.job is not None
    job = question.project.job(question.job)
    _check_fields(question, job.config)
    kept = {name: v for name, v in question.spec.changes.items() if name not in question.dropped}
    told = {name: value for name, value in kept.items() if _is_known(name, job)}
    was = before
    if any("made" in value for value in told.values()):
        was = dataclasses.replace(before, config=config_from_json(question.spec.job.config))
    job = spec_changes.apply(job, {name: spec_changes.from_json(name, value, was) for name, value in told.items()})
    job = spec_changes.apply(job, _changes(question, job))
    name, cluster = question.spec.cluster_name, wire.from_json(question.spec.cluster.raw)
    if job.name != before.name:
        raise InputError(
            f"the job is called '{job.name}' now",
            allowed=f"'{before.name}', as when the run was submitted",
            todo="name it so, or submit it as a run of its own with --from",
            where=question.code,
        )
    resolved = resolve.resolve(dataclasses.replace(job, cluster=cluster), question.project, question.store)
    job = dataclasses.replace(resolved.job, cluster=before.cluster)
    return dataclasses.replace(resolved, job=job, cluster_name=name), dict.fromkeys(kept, SUBMITTED)


def _changes(question: Question, job: Job) -> dict[str, Any]:
    changes = dict(question.changes)
    own = {*records.names(job.config), *(stage.name for stage in job.stages)}
    for name in changes:
        if name.partition(".")[0] == "cluster" and "cluster" not in own:
            raise InputError(
                f"{spec_changes.said(name, changes[name])}: the run goes on where it was, on "
                f"'{question.spec.cluster_name}'",
                allowed="fields of the config and of stages",
                todo="submit the job there, and begin from this run with --from",
                where="resume",
            )
    if question.workers is not None:
        trains = [stage.name for stage in job.stages if isinstance(stage, Train) and stage.name not in question.done]
        if len(trains) != 1:
            which = f" ({listed(trains)})" if trains else ""
            raise InputError(
                f"workers={question.workers} for {len(trains)} training stages{which}",
                allowed="a run that has one training stage to do",
                todo="say --set STAGE.workers=N",
            )
        changes[f"{trains[0]}.workers"] = question.workers
    return changes


def _is_known(name: str, job: Job) -> bool:
    """Whether a name that was changed at the submission is one still; `_check_fields` refuses lost config fields."""
    first = name.removeprefix("config.").partition(".")[0]
    return first in {stage.name for stage in job.stages} or first in records.names(job.config)


def _check_fields(question: Question, config: Any) -> None:
    """A field that the run has a value for and the code does not know was renamed or removed: neither is guessed."""
    every = list(_gone(fields(question.spec), config))
    lost = [path for path, _ in every]
    for name in question.dropped:
        if name not in lost:
            raise InputError(
                f"drop {name}",
                allowed=f"a field that the run has and the code has no more: {listed(lost)}",
                todo=suggest(name, lost) or "leave it out",
                where=question.code,
            )
    gone = [(path, raw) for path, raw in every if path not in question.dropped]
    if not gone:
        return
    path, raw = gone[0]
    known = records.names(config)
    fresh = [name for name in known if name not in fields(question.spec)]
    near = suggest(path, known)
    raise InputError(
        f"the config has no field '{path}'; the run has {path}={_shown(raw)}",
        allowed=listed(known) + (f" ({listed(fresh)} new)" if fresh else ""),
        todo=f"{near + ' ' if near else ''}Name it as it was; or, if it is meant to be gone, resume with --drop {path}",
        where=question.code,
    )


def _gone(raw: Mapping[str, Any], config: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    known = records.names(config)
    for name, part in raw.items():
        if name not in known:
            yield above + name, part
        elif (inner := _fields(part)) and records.is_record(value := getattr(config, name)):
            yield from _gone(inner, value, f"{above}{name}.")


def _check_stages(question: Question, before: Job, now: Job) -> None:
    was, is_ = ({stage.name: type(stage).__name__ for stage in job.stages} for job in (before, now))
    if was != is_:
        shown = {name for name, _ in was.items() ^ is_.items()}
        raise InputError(
            f"the job has other stages now: {listed(f'{kind} {name}' for name, kind in is_.items())}",
            allowed=listed(f"{kind} {name}" for name, kind in was.items()),
            todo=f"name {listed(sorted(shown))} as when the run was submitted, or submit it as a run of its own",
            where=question.code,
        )
    for stage in now.stages:
        used = (stage.uses or ()) if isinstance(stage, Prep) and stage.name in question.done else ()
        changed = [name for name in question.changes if name.removeprefix("config.").partition(".")[0] in used]
        if changed:
            raise InputError(
                f"stage '{stage.name}' is done, and depends on '{changed[0]}'",
                allowed="fields that it does not use",
                todo="submit the job again with that value: what does not depend on it is found",
                where="resume",
            )


# -- the answer ------------------------------------------------------------------------------------------------------


def _spec(question: Question, resolved: Resolved) -> RunSpec:
    root = question.project.root
    layout = kind_of(resolved.cluster).layout(resolved.cluster)
    legs = plan.legs(resolved, layout)
    if tuple(map(tuple, legs)) != question.spec.legs:
        raise InputError(
            f"the stages would share machines in another way: {listed(map('+'.join, legs))}",
            allowed=listed(map("+".join, question.spec.legs)),
            todo="leave the groups (on=) as they were",
            where=question.code,
        )
    return question.spec.but(
        job=wire.to_json(resolved.job, root),
        datasets=wire.to_json(resolved.datasets, root),
        plan=plan.resized(question.spec.plan.raw, resolved, layout),
        changes={**question.spec.changes, **spec_changes.to_json(question.changes)},
    )


def _lines(question: Question, spec: RunSpec, before: Job, now: Job, origins: Mapping[str, str]) -> Iterator[Line]:
    """Every field of stages and config that differs."""
    here = FILE if question.job is not None else question.code
    for was, is_ in zip(before.stages, sorted(now.stages, key=_place(before)), strict=True):
        for name in spec_changes.stage_fields(was):
            a, b = getattr(was, name), getattr(is_, name)
            if a != b:
                what = f"{was.name}.{name}"
                given = what in question.changes or (name == "workers" and question.workers is not None)
                yield Line(what, str(a), str(b), SET if given else here)
    old, new = dict(_flat(fields(question.spec))), dict(_flat(fields(spec)))
    for path in dict.fromkeys([*old, *new]):
        a, b = old.get(path, ABSENT), new.get(path, ABSENT)
        mine = path in question.changes or f"config.{path}" in question.changes
        if a != b:
            yield Line(path, a, b, SET if mine else here)
        elif not mine and (path in origins or f"config.{path}" in origins):
            yield Line(path, a, b, SUBMITTED)


def _place(job: Job) -> Any:
    names = [stage.name for stage in job.stages]
    return lambda stage: names.index(stage.name)


def fields(spec: RunSpec) -> dict[str, Any]:
    """The fields of a run's config, as `values` has written them."""
    return _fields(spec.job.config)


def _fields(raw: Any) -> dict[str, Any]:
    return dict(raw.get("fields") or {}) if isinstance(raw, dict) and raw.get(TAG) == "object" else {}


def _flat(raw: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Field -> its value in words, objects inside opened."""
    for name, part in raw.items():
        inner = _fields(part)
        if inner:
            yield from _flat(inner, f"{above}{name}.")
        else:
            yield above + name, _shown(part)


def _shown(raw: Any) -> str:
    if isinstance(raw, dict) and TAG in raw:
        said = next((raw[key] for key in ("name", "items", "value", "fields") if key in raw), None)
        return brief(said) if raw[TAG] == "tuple" or said is None else f"{raw[TAG]} {brief(said)}"
    return brief(raw)


def main(argv: Sequence[str]) -> int:
    """Answer the question in a folder."""
    folder = Path(argv[0])
    question = pickle.loads((folder / "question").read_bytes())
    with contextlib.redirect_stdout(sys.stderr):
        try:
            found: Any = answer(question)
        except Exception as error:
            if not isinstance(error, InputError):
                raise
            found = error
    (folder / "answer").write_bytes(pickle.dumps(found))
    return 0


if __name__ == "__main__":
    from runner.client import revise  # by its own name, so that what is pickled is found there

    set_main(ModuleType("__main__"))  # a script of the user's may become this process's main module
    sys.exit(revise.main(sys.argv[1:]))
