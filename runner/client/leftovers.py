"""What may go from a store: runs and datasets that a user names, and what nobody will ever read again.

Of a cluster only lost runs are looked for; see `kube/gc.py` for the rest. Nothing is removed by looking: a `Target` is
found first, shown, and removed by `remove` only, which looks again at what may have changed in between. What a run that
lives may use is not among them; a run lives until its log says otherwise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from runner.client.run import Run
from runner.data.catalog import Catalog, data_key, manifest_key
from runner.data.results import Results
from runner.errors import DataError, InputError, RunNotFound, listed, suggest
from runner.record import Bundle, RunState, View, fold
from runner.record.entries import Removed
from runner.record.finding import find_run, unfinished
from runner.record.index import INDEX, Index, begun_at, merged
from runner.record.origin import Origin
from runner.store import LOCAL, Entry, Store
from runner.store.store import Found
from runner.untrusted.names import FOLDER, RESULT, VERSION
from runner.untrusted.skipped import readable
from runner.worker import processes

#: Seconds for which what no version names is kept: a run that failed may be resumed, and use it.
OLD_S = 7 * 86400.0
#: Seconds after which a folder without a log will not become a run any more.
UNFINISHED_S = 3600.0
_TEMPORARY_S = 86400.0
_THREADS = 16
#: Folders of a store besides those of its runs.
_TOPS = (INDEX, "datasets", "results", "tasks")
DATASET = "dataset:"
RUN, UNFINISHED, HALF, LOST = "run", "unfinished run", "half-removed run", "lost run"
#: Kinds of what any run of the store may use.
SHARED = ("result", "tasks", "shards", "manifest")


@dataclass(frozen=True)
class Target:
    """Something that goes as one.

    Args:
        kind: 'run', 'dataset', 'version', or what is left of something.
        name: of it.
        keys: files and folders of the store, in the order in which they go.
        bytes: of their files.
        why: nobody needs it.
    """

    kind: str
    name: str
    keys: tuple[str, ...]
    bytes: int
    why: str = ""
    ids: tuple[str, ...] = ()  # of versions, which the dataset's log says are gone


@dataclass
class Living:
    """What runs that live may use.

    Args:
        runs: their ids.
        datasets: name -> the run that reads or writes it.
        starts: run -> the living run that began from its checkpoint.
        unreadable: those of the runs that cannot be read: nobody knows whether they live.
    """

    runs: set[str] = field(default_factory=set)
    unreadable: set[str] = field(default_factory=set)
    datasets: dict[str, str] = field(default_factory=dict)
    starts: dict[str, str] = field(default_factory=dict)


def living(store: Store) -> Living:
    """The runs of a store that have not ended, by their logs. One that was lost is among them until it was ended."""
    found = Living()
    for line in merged(Index(store).live()):
        bundle = Bundle(store, line.run_id)
        known: bool | None = readable(lambda bundle=bundle: _take_in(found, bundle), None)  # type: ignore[misc]
        if known is None:
            found.runs.add(line.run_id)
            found.unreadable.add(line.run_id)
    return found


def _take_in(found: Living, bundle: Bundle) -> bool:
    """Add a run, if it lives. Returns whether it does."""
    if bundle.is_given_up():
        begun = begun_at(bundle.run_id) or 0.0
        alive = abs(time.time() - begun) <= UNFINISHED_S  # its client may be about to submit it
    else:
        alive = not fold(bundle.log.read()).state.ended  # whoever moved its line in the index may have died over it
    if not alive:
        return False
    found.runs.add(bundle.run_id)
    try:
        spec = bundle.spec()
    except FileNotFoundError:
        return True
    for stage in spec.job.stages:
        for name in _names([stage.raw.get(each) for each in ("source", "sink", "data")]):
            found.datasets.setdefault(name, bundle.run_id)
    start = None if spec.start_from is None else spec.start_from.run
    if start:
        found.starts.setdefault(start, bundle.run_id)
    return True


def _names(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _names(part)


# -- what a user names -----------------------------------------------------------------------------------------------


def targets(store: Store, names: Iterable[str]) -> list[Target]:
    """What the names mean: runs (an id, a unique part of one, @last), datasets, and ``dataset@version``.

    Raises:
        InputError: a name fits nothing, or a run and a dataset; a run that lives is it, or uses it.
    """
    alive = living(store)
    found = [_target(store, name, alive) for name in dict.fromkeys(names)]
    return list({(target.kind, target.name): target for target in found}.values())


def _target(store: Store, name: str, alive: Living) -> Target:
    given, _, version = name.removeprefix(DATASET).partition("@")
    catalog = Catalog(store)
    found = {} if name.startswith("@") else catalog.readable_versions()
    known = [each for each, versions in found.items() if versions or (versions is None and each == given)]
    is_dataset = given in known
    try:
        run_id = find_run(store, name) if not name.startswith(DATASET) else None
    except RunNotFound:
        if not is_dataset:
            ids = list(Index(store).newest_ids())
            raise InputError(
                f"no run and no dataset '{name}'",
                allowed=f"a run of `runner ps`; a dataset: {listed(known)}",
                todo=suggest(given, [*known, *ids]) or "see `runner ps` and `runner data ls`",
                where=f"store {store.url}",
            ) from None
        run_id = None
    if run_id is not None and is_dataset and run_id != name:
        raise InputError(
            f"'{name}' is a dataset and fits the run {run_id}",
            allowed=f"'{DATASET}{name}', or the run's whole id",
            todo="say which",
            where=f"store {store.url}",
        )
    if run_id is not None:
        return _run(store, run_id, alive)
    if not is_dataset:
        raise InputError(
            f"no dataset '{given}'",
            allowed=listed(known),
            todo=suggest(given, known) or "see `runner data ls`",
            where=f"store {store.url}",
        )
    return _dataset(store, given, version, alive)


def _run(store: Store, run_id: str, alive: Living) -> Target:
    view = readable(Run(store, run_id).view, None)
    if view is not None:
        _check_run(run_id, alive, view)
    why = "it cannot be read, and whether it lives is not known" if view is None else str(view.state)
    return Target(RUN, run_id, (run_id,), _size(store, [run_id]), why=why)


def _dataset(store: Store, name: str, version: str, alive: Living) -> Target:
    _check_free(alive.datasets.get(name), f"dataset {name}")
    versions = readable(lambda: Catalog(store).versions(name), None)
    if versions is None:
        key = f"datasets/{name}"
        return Target("dataset", name, (key,), _size(store, [key]), "its log cannot be read")
    chosen = [entry for entry in versions if entry.data.id.startswith(version)]
    ids = list(dict.fromkeys(entry.data.id for entry in chosen))
    if not ids or (version and len(ids) > 1):
        shown = listed(dict.fromkeys(entry.data.id[:12] for entry in versions))
        raise DataError(f"version '{version}' fits {len(ids)}", allowed=shown, todo="give one of them", where=name)
    kept = {entry.data.folder for entry in versions if entry.data.id not in ids}
    folders = dict.fromkeys(entry.data.folder for entry in chosen if entry.data.folder not in kept)
    keys = [*(manifest_key(name, id) for id in ids), *(data_key(name, folder) for folder in folders)]
    shown = f"{name}@{ids[0][:12]}" if version else name
    kind = "version" if version else "dataset"
    return Target(
        kind,
        shown,
        tuple(keys),
        _size(store, keys),
        "" if version else "1 version" if len(ids) == 1 else f"{len(ids)} versions",
        tuple(ids),
    )


def _check_run(run_id: str, alive: Living, view: View) -> None:
    if run_id in alive.runs and view.state is RunState.LOST:
        raise InputError(
            "the run is lost: its processes are gone, and its log does not say so",
            allowed="a run that has ended",
            todo=f"runner cancel {run_id} ends it",
            where=run_id,
        )
    if run_id in alive.runs:
        raise InputError(
            f"the run is {view.state}", allowed="a run that has ended", todo="cancel it first", where=run_id
        )
    _check_free(alive.starts.get(run_id), f"run {run_id}")


def _check_free(user: str | None, what: str) -> None:
    if user is not None:
        raise InputError(
            f"{what} is used by a run that lives, {user}", allowed="what no run uses", todo="wait, or cancel it first"
        )


def remove(store: Store, target: Target) -> None:
    """Remove what was found, in an order in which whoever looks meanwhile sees it whole or not at all.

    Raises:
        InputError: a run may use it by now. Nothing was removed.
    """
    dataset = target.name.partition("@")[0]
    if target.kind == LOST:
        Run(store, target.name).reap()
        return
    if target.kind == UNFINISHED:
        if not Bundle(store, target.name).give_up():
            raise InputError("it was submitted after all", allowed="what never was", todo="leave it", where=target.name)
    elif target.kind == RUN:
        bundle = Bundle(store, target.name)
        readable(lambda: _close(bundle), None)
        bundle.leave_index()
        processes.remove_scratch(target.name)
    elif target.ids:
        _withdraw(store, dataset, target.ids)
    elif target.kind in SHARED:
        _check_free(next(iter(living(store).runs), None), f"{target.kind} {target.name}")
    for key in target.keys:
        if target.kind in (RUN, UNFINISHED, HALF):
            for name in (each for each in store.list(key) if each != "log"):
                store.delete_tree(f"{key}/{name}")  # the log is the last to go: what it says of the removal holds
        store.delete_tree(key)


def _withdraw(store: Store, dataset: str, ids: tuple[str, ...]) -> None:
    """Have nobody find versions any more, by the dataset's log or by their manifests, unless a run may use them.

    A run is seen to live before it looks for data, and here runs are looked for once more when there is nothing to be
    found: of a run that begins meanwhile either this sees it, and gives all back, or it does not see the versions.
    """

    def check() -> None:
        _check_free(living(store).datasets.get(dataset), f"dataset {dataset}")

    check()
    catalog = Catalog(store)
    manifests = {key: data for id in ids if (data := _content(store, key := manifest_key(dataset, id))) is not None}
    gone = catalog.retract(dataset, ids)
    try:
        for key in manifests:
            store.delete(key)
        check()
    except BaseException:
        for key, data in manifests.items():
            store.create(key, data)
        catalog.restore(dataset, gone)
        raise


def _content(store: Store, key: str) -> bytes | None:
    """None of what is not there, or cannot be read."""
    with contextlib.suppress(FileNotFoundError):
        return readable(lambda: store.get(key, None), None)
    return None


def _close(bundle: Bundle) -> None:
    """Say in a run's log that it goes: of this and a resume one comes first, and the other is refused."""

    def still_over(entries: list[Entry]) -> None:
        view = fold(entries)
        alive = Living({bundle.run_id} if not view.state.ended else set(), starts=living(bundle.root).starts)
        _check_run(bundle.run_id, alive, view)

    if not bundle.is_given_up():
        bundle.log.append(Removed(), still_over)


# -- what nobody needs -----------------------------------------------------------------------------------------------


def leftovers(store: Store, now: float | None = None, older_s: float = OLD_S) -> tuple[list[Target], list[str]]:
    """What no run and no version needs any more.

    Args:
        older_s: seconds for which results that no version names are kept.

    Returns:
        What may go, and words about what was left aside.
    """
    now = time.time() if now is None else now
    alive, notes = living(store), []
    lost = _lost(store, alive)
    found = [
        Target(LOST, run.id, (), 0, "its processes are gone: it is ended, and can be resumed")
        for run, origin in lost
        if origin.is_mine
    ]
    notes += [
        f"lost run {run.id} is {origin.by}'s, by its bundle: `runner cancel {run.id}` ends it"
        for run, origin in lost
        if not origin.is_mine
    ]
    found += [
        Target(UNFINISHED, run, (run,), _size(store, [run]), "its client died while it submitted it")
        for run in unfinished(store, now - UNFINISHED_S)
        if run not in alive.runs
    ]
    found += _half_removed(store, now, {target.name for target in found})
    found += _temporary(store, now)
    if alive.unreadable:
        notes.append(f"runs that cannot be read, and may live: {', '.join(sorted(alive.unreadable))}; see `runner rm`")
    if alive.runs:
        notes.append(f"results are left aside while runs live, which may use them: {', '.join(sorted(alive.runs))}")
    else:
        found += _results(store, now - older_s)
    return found, notes


def _lost(store: Store, alive: Living) -> list[tuple[Run, Origin]]:
    """Runs whose processes are gone without having ended them, and whose they are. To remove one means to end it."""
    with ThreadPoolExecutor(_THREADS) as threads:
        runs = [Run(store, run_id) for run_id in sorted(alive.runs)]
        lost = list(threads.map(_is_lost, runs))
    return [(run, Origin.of(run.bundle)) for run, is_lost in zip(runs, lost, strict=True) if is_lost]


def _is_lost(run: Run) -> bool:
    """One without a spec, to which its client has not come, is not, and one that cannot be read may be anything."""
    return readable(lambda: not run.bundle.is_given_up() and run.view().state is RunState.LOST, False)


def _half_removed(store: Store, now: float, others: set[str]) -> list[Target]:
    """Folders of runs that the index does not have, and of which only the log is left, or whose log is over."""
    known = {*Index(store).newest_ids(), *others}
    names = [n for n in store.list() if n not in known and (begun := begun_at(n)) and now - begun > UNFINISHED_S]
    gone = [n for n in names if readable(lambda n=n: _is_half_removed(store, n), False)]  # type: ignore[misc]
    return [Target(HALF, n, (n,), _size(store, [n]), "its removal was cut") for n in gone]


def _is_half_removed(store: Store, name: str) -> bool:
    return store.list(name) == ["log"] or fold(Bundle(store, name).log.read()).state.ended


def _temporary(store: Store, now: float) -> list[Target]:
    """Files and links that a killed process was making, in the folders that are the store's own: it may lie in a
    project, with files of the user's beside them.
    """
    if store.kind != LOCAL:
        return []  # an object exists whole or not at all
    tops = [name for name in store.list() if name in _TOPS or begun_at(name)]
    found = [dataclasses.replace(f, key=f"{top}/{f.key}") for top in tops for f in store.find(top, temporary=True)]
    old = [f for f in found if now - f.at > _TEMPORARY_S]
    return [Target("temporary file", f.key, (f.key,), f.bytes, "a killed process was writing it") for f in old]


def _results(store: Store, before: float) -> list[Target]:
    """Results, tasks and folders of datasets that no version names."""
    catalog, recorded = Catalog(store), Results(store)
    found_versions = catalog.readable_versions()
    versions = {name: found for name, found in found_versions.items() if found is not None}
    named = {entry.data.key for entries in versions.values() for entry in entries}
    results, tasks = _by_folder(store, "results"), _by_folder(store, "tasks")
    old = {key for key, files in results.items() if key not in named and _newest(files) < before}
    there = {(name, entry.data.id) for name, entries in versions.items() for entry in entries}
    unknown = found_versions.keys() - versions.keys()
    gone = {key for key in old if not any(_is_needed(record, there, unknown) for record in recorded.of_key(key))}
    needed = {record.get("tasks_of") for key in results if key not in gone for record in recorded.of_key(key)}
    dropped = {code for code, files in tasks.items() if code not in needed and _newest(files) < before}
    found = [_folder_target("result", f"results/{key}", results[key], "no version names it") for key in sorted(gone)]
    for code in sorted(dropped):
        why = f"{len(tasks[code])} records of code that is superseded"
        found.append(_folder_target("tasks", f"tasks/{code}", tasks[code], why))
    found += _folders(store, recorded, versions, sorted(set(tasks) - dropped), before)
    kept = there.union(*(_made(record) for key in results if key not in gone for record in recorded.of_key(key)))
    return found + _manifests(store, versions, kept, before)


def _is_needed(record: Mapping[str, Any], there: set[tuple[str, str]], unknown: Collection[str]) -> bool:
    """Whether a version is a result, or may be one: of `unknown` datasets nobody can read which versions they have."""
    return bool(_made(record) & there) or any(name in unknown for name, _ in _made(record))


def _made(record: Mapping[str, Any]) -> set[tuple[str, str]]:
    """(dataset, id) of each version that a result is: of equal data that others had made before, too."""
    return {(sink["dataset"], sink["id"]) for sink in record["sinks"].values()}


def _by_folder(store: Store, top: str) -> dict[str, list[Found]]:
    """The files in each folder of `top` that is named by a key, by that."""
    folders: dict[str, list[Found]] = {}
    for file in store.find(top):
        key = file.key.partition("/")[0]
        if RESULT.fits(key):
            folders.setdefault(key, []).append(file)
    return folders


def _newest(files: Iterable[Found]) -> float:
    return max(file.at for file in files)


def _folder_target(kind: str, key: str, files: Iterable[Found], why: str) -> Target:
    return Target(kind, key.partition("/")[2], (key,), sum(file.bytes for file in files), why)


def _folders(store: Store, recorded: Results, versions: Any, codes: list[str], before: float) -> list[Target]:
    used = {(name, entry.data.folder) for name, entries in versions.items() for entry in entries}
    with ThreadPoolExecutor(_THREADS) as threads:
        keys = [(code, task) for code in codes for task in recorded.tasks(code)]
        for record in threads.map(lambda each: recorded.task(*each), keys):
            for sink in (record or {}).get("sinks", {}).values():
                used |= {(None, file["folder"]) for file in sink["files"]}
    found = []
    for name in versions:
        for folder in store.list(f"datasets/{name}/_versions"):
            inner = f"_versions/{folder}"
            if not FOLDER.fits(inner):
                continue
            if (name, inner) in used or (None, inner) in used:
                continue
            key = data_key(name, inner)
            files = store.find(key)
            if max((f.at for f in files), default=0.0) < before:
                found.append(
                    Target("shards", f"{name}/{folder}", (key,), sum(f.bytes for f in files), "no version names them")
                )
    return found


def _manifests(store: Store, names: Iterable[str], kept: set[tuple[str, str]], before: float) -> list[Target]:
    found = []
    for name in names:
        folder = f"datasets/{name}/_manifests"
        for file in store.find(folder):
            id = file.key.removesuffix(".parquet")
            if VERSION.fits(id) and (name, id) not in kept and file.at < before:
                why = "no version and no result names it"
                found.append(Target("manifest", f"{name}@{id[:12]}", (f"{folder}/{file.key}",), file.bytes, why))
    return found


def _size(store: Store, keys: Iterable[str]) -> int:
    files: list[Found] = [file for key in keys for file in store.find(key)]
    return sum(file.bytes for file in files)
