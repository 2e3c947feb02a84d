"""Checkpoints of a training stage in the bundle: written whole, published once, verified when read.

    checkpoints/<stage>/<step>-<attempt>/manifest.json    what is in it: files with their sha256, and all positions
                                         <name>.safetensors, <name>.pt, <name>.json, random-states.pt

A checkpoint exists from the moment that the run's log has an entry "checkpoint" for it. That entry is refused when a
newer attempt has begun, and it holds the hash of the manifest, which holds the hashes of the files. A folder without
an entry is what a killed process left; the next checkpoint removes it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import RunnerError, StoreBroken, StoreError
from runner.record.entries import CheckpointPublished
from runner.record.kept import CheckpointManifest
from runner.spec import Train
from runner.store import LOCAL, Store
from runner.store.folder import sha256_of
from runner.untrusted import shapes
from runner.worker.scope import Scope

MANIFEST = "manifest.json"
VERSION = 1


class Damaged(Exception):
    """A published checkpoint is not what was published; the text says which file and why."""


@dataclass
class Loaded:
    """A verified checkpoint.

    Args:
        entry: what the run's log tells of it.
        manifest: what is in it.
    """

    entry: CheckpointPublished
    manifest: dict[str, Any]
    checkpoints: Checkpoints

    def read(self, file: str) -> Any:
        """The content of one of its files. Raises Damaged."""
        from runner.train.checkpoint import files as checkpoint_files

        notes = checkpoint_files.notes_of(file)
        beside = self._fetched(notes) if notes in self.manifest["files"] else None
        return checkpoint_files.read(self._fetched(file), beside)

    def required(self, file: str) -> Any:
        """The content of a file that a training goes on from. Raises StoreError."""
        try:
            return self.read(file)
        except Damaged as error:
            raise StoreError(f"checkpoint {self.entry.key}: {error}", todo="resume again") from None

    def _fetched(self, file: str) -> Path:
        return self.checkpoints.fetch(self.entry.key, file, self.manifest["files"][file])


class Checkpoints:
    """The checkpoints of one stage of one run.

    Args:
        scope: of the attempt that reads or writes.
        stage: whose `keep` says how many of the last stay.
        store: of another run's bundle, to read from.
    """

    def __init__(self, scope: Scope, stage: Train, store: Store | None = None) -> None:
        self._scope, self._stage = scope, stage
        self._store = store or scope.bundle.store
        self._folder = scope.bundle.checkpoints(stage.name)

    def published(self) -> list[CheckpointPublished]:
        """All that were published, newest first."""
        events = [entry.event for entry in reversed(self._scope.bundle.log.read())]
        return [each for each in events if isinstance(each, CheckpointPublished) and each.stage == self._stage.name]

    # -- writing -------------------------------------------------------------------------------------------------

    def scratch(self, step: int) -> Path:
        """An empty local folder to write the files of a checkpoint into."""
        folder = self._scope.scratch / "checkpoints" / self._stage.name / str(step)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def publish(
        self, step: int, folder: Path, content: dict[str, Any], metrics: dict[str, float], best: bool
    ) -> CheckpointPublished:
        """Copy the files of `folder` into the bundle and make them a checkpoint; `folder` is removed.

        Args:
            content: fields for the manifest (objects, streams, epoch, ...).
            metrics: the latest values; best: whether this is the best so far.

        Returns:
            What the log tells of it.

        Raises:
            StoreError: it cannot be written (no space, no permission). Earlier checkpoints are untouched.
            Fenced: a newer attempt has begun.
        """
        from runner.train.checkpoint.files import sha256

        key = self._free_key(step)
        try:
            files = {p.name: {"sha256": sha256(p), "bytes": p.stat().st_size} for p in sorted(folder.iterdir())}
            manifest = {"version": VERSION, "stage": self._stage.name, "step": step, "files": files, **content}
            data = json.dumps(manifest, sort_keys=True).encode()
            for name in files:
                self._store.put_file(f"{key}/{name}", folder / name)
            self._store.put(f"{key}/{MANIFEST}", data)
            sha256_of_it = hashlib.sha256(data).hexdigest()
            entry = CheckpointPublished(self._stage.name, step, key, dict(metrics), best, sha256_of_it)
            self._scope.ship(self._stage.name, "metrics", "rank0")  # nobody will make these steps' rows again
            self._scope.record(entry)
        except BaseException:
            with contextlib.suppress(RunnerError, OSError):  # what is left has no entry, so nobody will read it
                self._store.delete_tree(key)
            raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return entry

    def has_same_files(self, entry: CheckpointPublished, folder: Path, besides: str) -> bool:
        """Whether the files of `folder` are those of a published checkpoint, the file `besides` left out of account."""
        from runner.train.checkpoint.files import sha256

        try:
            known = self.opened(entry).manifest["files"]
        except Damaged:
            return False
        found = {path.name: sha256(path) for path in folder.iterdir()}
        return found == {name: facts["sha256"] for name, facts in known.items() if name != besides}

    def prune(self) -> None:
        """Delete all but the last `keep` and the best; also what killed processes left half-written. Raises Fenced."""
        self._scope.check_fence()  # what a newer attempt is about to publish has no entry yet
        entries = self.published()
        kept = {entry.key for entry in entries[: self._stage.keep]}
        kept.update(entry.key for entry in [e for e in entries if e.best][:1])
        for name in self._store.list(self._folder):
            key = f"{self._folder}/{name}"
            if key not in kept:
                self._store.delete(f"{key}/{MANIFEST}")  # first, so that what is half-deleted is not read
                self._store.delete_tree(key)

    def _free_key(self, step: int) -> str:
        base = self._scope.bundle.checkpoint(self._stage.name, step, self._scope.attempt)
        key, number = base, 1
        while self._store.exists(key):
            number += 1
            key = f"{base}.{number}"
        return key

    # -- reading -------------------------------------------------------------------------------------------------

    def newest(self, entries: list[CheckpointPublished]) -> tuple[Loaded | None, list[str]]:
        """The newest whole checkpoint, and words about each damaged one that was passed over.

        Args:
            entries: of `published`.

        Raises:
            StoreError: there are checkpoints, and every one is damaged.
        """
        damaged: list[str] = []
        for entry in entries[: self._stage.keep] + [e for e in entries[self._stage.keep :] if e.best][:1]:
            try:
                return self.verified(entry), damaged
            except Damaged as error:
                damaged.append(f"checkpoint {entry.key} is damaged ({error})")
        if not damaged:
            return None, []
        raise StoreError(
            "; ".join(damaged),
            allowed="at least one whole checkpoint to go on from",
            todo="restore the files from a copy, or submit the job again to train from the start",
            where=f"store {self._store.url}",
        )

    def verified(self, entry: CheckpointPublished) -> Loaded:
        """The checkpoint of an entry, every file of it hashed. Raises Damaged."""
        loaded = self.opened(entry)
        for name, facts in loaded.manifest["files"].items():
            self.fetch(entry.key, name, facts)
        return loaded

    def opened(self, entry: CheckpointPublished) -> Loaded:
        """The checkpoint of an entry, its manifest verified; files are when they are read. Raises Damaged."""
        try:
            data = self._store.get(f"{entry.key}/{MANIFEST}")
        except FileNotFoundError:
            raise Damaged(f"{MANIFEST} is missing") from None
        if hashlib.sha256(data).hexdigest() != entry.sha256:
            raise Damaged(f"the sha256 of {MANIFEST} is not the one that was published")
        try:
            manifest = shapes.loads(data)
            CheckpointManifest.from_json(manifest)
        except shapes.Misshapen as error:  # it may be another run's
            raise Damaged(f"{MANIFEST}: {error}") from None
        return Loaded(entry, manifest, self)

    def fetch(self, key: str, name: str, facts: Mapping[str, Any]) -> Path:
        """A local path of a file, its content verified. Raises Damaged.

        Args:
            facts: of the file in its manifest: its sha256 and bytes.
        """
        remote = self._store.path(f"{key}/{name}")
        path = Path(remote) if self._store.kind == LOCAL else self._scope.scratch / "fetched" / key / name
        sha256, most = facts["sha256"], facts["bytes"]
        try:
            if self._store.kind != LOCAL and not (path.exists() and sha256_of(path, most) == sha256):
                path.parent.mkdir(parents=True, exist_ok=True)
                self._store.get_file(f"{key}/{name}", path, most)  # several ranks of one machine may
            found = sha256_of(path, most)
        except FileNotFoundError:
            raise Damaged(f"{name} is missing") from None
        except StoreBroken as error:
            raise Damaged(f"{name}: {error.found}") from None
        if found != sha256:
            raise Damaged(f"the sha256 of {name} is not the one in its manifest")
        return path
