"""Which data a training stage reads: decided once per run, so that a resume reads the same."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from runner.errors import SpecError, listed, suggest
from runner.spec import Train
from runner.worker.scope import Scope

if TYPE_CHECKING:
    from runner.data.manifest import Manifest


def pin(stage: Train, scope: Scope) -> None:
    """Resolve every dataset of the stage and keep its manifest in the bundle, and the footers of its files, of which
    ranks then ask none; what an earlier attempt kept stays.

    Raises:
        DataError: a dataset is missing, empty or unreadable.
    """
    for name, source in stage.data.items():
        if not scope.bundle.store.exists(_key(stage, name)):
            scope.keep_manifest(_key(stage, name), scope.manifest(source).counted().with_footers())


def pinned(stage: Train, name: str, scope: Scope) -> Manifest:
    """The manifest that `pin` kept for one of the stage's names. Raises SpecError for another name."""
    if name not in stage.data:
        raise SpecError(
            f"the name '{name}'",
            allowed=listed(stage.data),
            todo=suggest(name, stage.data) or "add it to Train(data=...)",
            where=f"ctx.batches in stage '{stage.name}'",
        )
    with contextlib.suppress(FileNotFoundError):
        return scope.kept_manifest(_key(stage, name))
    return scope.manifest(stage.data[name])


def _key(stage: Train, name: str) -> str:
    return f"manifests/{stage.name}-{name}.parquet"
