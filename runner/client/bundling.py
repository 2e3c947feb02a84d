"""Writing a run's bundle: whole, or not at all."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from runner.backends.entry import PROGRAMS
from runner.backends.registry import client_side, kind_of, kind_of_run, place
from runner.client.prepare import Prepared
from runner.code import optimized
from runner.code.archive import pack_run
from runner.errors import ApiError, StoreError
from runner.record import Bundle, RunState, trust
from runner.record.bundle import CODE, LOCK, SPEC, encoded
from runner.record.entries import Submitted
from runner.record.index import LIVE, Doing, new_run_id
from runner.record.run_spec import RunSpec
from runner.record.trust import user
from runner.spec import changes as spec_changes
from runner.spec import wire


def write_bundle(prepared: Prepared, *, inline: bool) -> Bundle:
    """Everything that the run is, then its first log entry: it exists from that on, whole, or not at all."""
    resolved = prepared.resolved
    root = resolved.project.root
    store = resolved.store
    spec = RunSpec.of(
        job=wire.to_json(resolved.job, root),
        datasets=wire.to_json(resolved.datasets, root),
        cluster_name=resolved.cluster_name,
        cluster=wire.to_json(resolved.cluster, root),
        force=prepared.force,
        optimized=optimized.level(),
        entry=PROGRAMS,
        legs=prepared.plan.legs,
        plan=prepared.plan.to_json(),
        lineage=_lineage(root),
        source=prepared.source,
        start_from=prepared.begins,
        changes=spec_changes.to_json(prepared.changes),
    )
    parts = {CODE: pack_run(resolved.project, spec.raw, store, remote=kind_of(resolved.cluster).remote)}
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
            submitted = Submitted(resolved.job.name, prepared.plan.legs, user(), inline, sealed, signed)
            if kind_of(resolved.cluster).launches_early and not inline:
                client_side(bundle).launch()
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
            if bundle.cluster().mark and kind_of_run(bundle).launches_early:
                client_side(bundle).remove()
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
