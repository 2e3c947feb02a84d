"""What a run has kept, brought to this machine: checkpoints, verified, and any file of its bundle."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from runner.errors import InputError, StoreError, listed, suggest
from runner.record.bundle import Bundle
from runner.record.history import View
from runner.store import LOCAL, Store, whole_copy
from runner.store.folder import sha256_of
from runner.store.store import LARGEST_BYTES
from runner.untrusted.names import FILE, STEP
from runner.untrusted.shapes import named
from runner.untrusted.skipped import readable
from runner.untrusted.typed import Excerpt, Record, read

MANIFEST = "manifest.json"
BEST, LAST = "best", "last"


@dataclass(frozen=True)
class FileFacts(Record):
    """What a manifest says of a file."""

    sha256: str
    bytes: int


@dataclass(frozen=True)
class CheckpointManifest(Excerpt):
    """The manifest of a checkpoint, with its files by their names; the rest of it is the training's."""

    files: Mapping[Annotated[str, named(FILE)], FileFacts]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that a run has published.

    Args:
        stage, step, metrics: as the function had them.
        key: of its folder, in the bundle.
        url: of its folder.
        best, last: whether it is the best of its stage so far, and the newest.
        exists: whether it is still there; older ones are removed, see `Train.keep`.
        bytes: of its files; None where it does not exist.
        sha256: of its manifest.
    """

    stage: str
    step: int
    metrics: dict[str, float]
    key: str
    url: str
    best: bool
    last: bool
    exists: bool
    bytes: int | None
    sha256: str


def checkpoints(bundle: Bundle, view: View, stage: str | None = None) -> list[Checkpoint]:
    """The checkpoints of a run, oldest first; those that are gone as well."""
    found = []
    for name, each in view.stages.items():
        if stage not in (None, name) or not each.checkpoints:
            continue
        there = set(bundle.store.list(bundle.checkpoints(name)))
        newest = {event.key: event for event in each.checkpoints}
        best = next((event.key for event in reversed(each.checkpoints) if event.best), None)
        for key, event in newest.items():
            size = _size(bundle.store, key) if key.rpartition("/")[2] in there else None
            found.append(
                Checkpoint(
                    name,
                    event.step,
                    dict(event.metrics),
                    key,
                    f"{bundle.store.url}/{key}",
                    key == best,
                    key == each.checkpoints[-1].key,
                    size is not None,
                    size,
                    event.sha256,
                )
            )
    return found


def choose(found: list[Checkpoint], which: str | int, where: str) -> Checkpoint:
    """The checkpoint that is meant: "best", "last" or a step.

    Raises:
        InputError: there is none such, it is gone, or several stages have one.
    """
    step = int(which) if STEP.fits(str(which)) else None
    fits = [c for c in found if (c.step == step if step is not None else getattr(c, str(which), False) is True)]
    fits = [c for c in fits if c.exists] or fits
    steps = [f"{c.step}" for c in found if c.exists]
    there = f"steps {listed(steps)}"
    if step is None and which not in (BEST, LAST):
        raise InputError(
            f"checkpoint {which!r}",
            allowed=f"'{BEST}', '{LAST}' or a step" + (f": {listed(steps)}" if steps else ""),
            todo=suggest(str(which), (BEST, LAST)) or "see `runner checkpoints`",
            where=where,
        )
    if not steps:
        gone = "; all that it had are gone" if found else ""
        raise InputError(
            f"the run has no checkpoint{gone}",
            allowed="a run with a checkpoint that is there",
            todo="see `runner checkpoints` of another run",
            where=where,
        )
    if not fits and which == BEST:
        raise InputError(
            "the run has no best checkpoint",
            allowed=f"'{LAST}', or {there}",
            where=where,
            todo="name best=(metric, 'min' or 'max') in the stage, and give the metric to ctx.log in it",
        )
    if not fits:
        todo = "see `runner checkpoints`"
        raise InputError(f"the run has no checkpoint {which!r}", allowed=there, todo=todo, where=where)
    stages = list(dict.fromkeys(c.stage for c in fits))
    if len(stages) > 1:
        raise InputError(
            f"checkpoint {which!r} of {len(stages)} stages",
            allowed=f"one stage of {listed(stages)}",
            todo="say which with stage= or --stage",
            where=where,
        )
    if not fits[-1].exists:
        raise InputError(
            f"the checkpoint of step {fits[-1].step} is gone",
            allowed=there,
            todo="choose one of them; Train(keep=N) says how many stay",
            where=where,
        )
    return fits[-1]


def fetch(bundle: Bundle, chosen: Checkpoint, folder: Path | None = None) -> Path:
    """A local folder with the files of a checkpoint, every one of them verified.

    Args:
        folder: to copy them to, which must not exist; None: where they lie, or, in an object store, a copy in the
            user's cache.

    Raises:
        StoreError: a file is missing, or is not what was published.
        InputError: the folder cannot be written, or is there.
    """
    manifest = _manifest(bundle.store, chosen)
    if folder is None and bundle.store.kind == LOCAL:
        there = Path(bundle.store.path(chosen.key))
        _verify(there, manifest, chosen)
        return there
    target = _cache(bundle, chosen) if folder is None else folder
    if folder is None and target.exists():
        try:
            _verify(target, manifest, chosen)
            return target
        except StoreError:
            with whole_copy.explained(target):
                shutil.rmtree(target)  # a copy of ours that somebody has changed
    try:
        _download(bundle.store, chosen, manifest, target)
    except InputError:
        if folder is not None or not target.is_dir():  # otherwise another process was quicker
            raise
    return target


def _download(store: Store, chosen: Checkpoint, manifest: CheckpointManifest, target: Path) -> None:
    """All files or none."""
    try:
        with whole_copy.whole(target) as part:
            part.mkdir()
            for name, most in (*((n, f.bytes) for n, f in manifest.files.items()), (MANIFEST, LARGEST_BYTES)):
                store.get_file(f"{chosen.key}/{name}", part / name, most)
            _verify(part, manifest, chosen)
    except FileNotFoundError as error:
        raise StoreError(f"{error}", todo="see `runner checkpoints`", where=chosen.url) from error


def _cache(bundle: Bundle, chosen: Checkpoint) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "runner" / "checkpoints" / bundle.run_id / f"{chosen.stage}-{chosen.sha256[:16]}"


def _manifest(store: Store, chosen: Checkpoint) -> CheckpointManifest:
    try:
        data = store.get(f"{chosen.key}/{MANIFEST}")
    except FileNotFoundError:
        raise StoreError("the checkpoint is gone", todo="see `runner checkpoints`", where=chosen.url) from None
    if hashlib.sha256(data).hexdigest() != chosen.sha256:
        raise _damaged(MANIFEST, chosen)
    return read(CheckpointManifest, data, store.path(f"{chosen.key}/{MANIFEST}"))


def _verify(folder: Path, manifest: CheckpointManifest, chosen: Checkpoint) -> None:
    for name, facts in manifest.files.items():
        try:
            found = sha256_of(folder / name, facts.bytes)
        except FileNotFoundError:
            raise StoreError(f"{name} is missing", todo="choose another checkpoint", where=chosen.url) from None
        if found != facts.sha256:
            raise _damaged(name, chosen)


def _damaged(name: str, chosen: Checkpoint) -> StoreError:
    return StoreError(
        f"{name} is not what was published: its sha256 is another",
        allowed="the file as it was written",
        todo="choose another checkpoint, or restore the file from a copy",
        where=chosen.url,
    )


def _size(store: Store, key: str) -> int | None:
    """The bytes of a checkpoint's files; None if it is not there, or nobody can read it."""
    path = f"{key}/{MANIFEST}"
    try:
        manifest = readable(lambda: read(CheckpointManifest, store.get(path), store.path(path)), None)
    except FileNotFoundError:
        return None
    return None if manifest is None else sum(file.bytes for file in manifest.files.values())


# -- any file --------------------------------------------------------------------------------------------------------


def copy(bundle: Bundle, path: str, dest: Path) -> list[str]:
    """Copy a file or folder of the bundle to `dest`; whatever is there already is not touched.

    Args:
        path: in the bundle, such as ``artefacts/train/sample.txt``.
        dest: a folder that exists, to copy it into, or the name of the copy.

    Returns:
        The files that were written.

    Raises:
        InputError: there is no such path, something lies where it would go, or it cannot be written there.
        StoreError: a file has gone in the meantime.
    """
    key = _inside(bundle, path)
    found = bundle.store.find(key)
    if not found:
        raise _nothing(bundle, key)
    target = whole_copy.place(dest, key.rpartition("/")[2])
    try:
        with whole_copy.whole(target) as part:
            for inner in found:
                file = part / inner.key
                file.parent.mkdir(parents=True, exist_ok=True)
                bundle.store.get_file(f"{key}/{inner.key}" if inner.key else key, file)
    except FileNotFoundError as error:
        raise StoreError(f"{error}", todo="see whether the run is still there", where=bundle.run_id) from error
    return [str(target / inner.key) for inner in found]


def _inside(bundle: Bundle, path: str) -> str:
    key = path.strip("/").removeprefix(f"{bundle.run_id}/")
    if not key or path.startswith("/") or ".." in key.split("/"):
        raise InputError(
            f"path '{path}'",
            allowed="a path in the run's bundle, such as artefacts/train/sample.txt",
            todo="see `runner status`",
            where=bundle.run_id,
        )
    return key


def _nothing(bundle: Bundle, key: str) -> InputError:
    above, _, name = key.rpartition("/")
    while above and not (known := bundle.store.list(above)):
        above, _, name = above.rpartition("/")
    known = bundle.store.list(above)
    near = suggest(name, known)
    return InputError(
        f"no '{key}' in the bundle",
        allowed=listed(f"{above}/{each}" if above else each for each in known),
        todo=near or "see `runner status`",
        where=bundle.run_id,
    )
