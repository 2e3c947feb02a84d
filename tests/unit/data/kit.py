"""What several tests of data share: a file system like an object store, and manifests made of numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import fsspec
import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from runner.data.manifest import Manifest, Shard, Unit


class RemoteFileSystem(MemoryFileSystem):
    """A file system of another name, as an object store is: read by ranges; `said` is what it knows of each file."""

    protocol = "remote"
    cachable = False
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    said: ClassVar[dict[str, Any]] = {}
    seen_options: ClassVar[dict[str, Any]] = {}
    refuses: ClassVar[type[OSError] | None] = None
    short: ClassVar[int] = 0
    reads: ClassVar[list[tuple[str, int, int]]] = []

    def __init__(self, **options: Any) -> None:
        super().__init__()
        RemoteFileSystem.seen_options = options

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("remote://").strip("/")

    def info(self, path: str, **arguments: Any) -> dict[str, Any]:
        if self.refuses is not None:
            raise self.refuses(13, "Access Denied")
        return {**super().info(path, **arguments), **self.said}

    def find(self, path: str, *arguments: Any, **more: Any) -> Any:
        return {name: {**one, **self.said} for name, one in super().find(path, *arguments, **more).items()}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **arguments: Any) -> bytes:
        data = super().cat_file(path, start=start, end=end, **arguments)
        self.reads.append((path, start or 0, end or len(data)))
        return data[: len(data) - self.short]


def register_remote(monkeypatch: pytest.MonkeyPatch) -> type[RemoteFileSystem]:
    """Makes remote:// known, with an empty store."""
    fsspec.register_implementation("remote", RemoteFileSystem, clobber=True)
    fresh = {"store": {}, "pseudo_dirs": [""], "said": {}, "seen_options": {}, "refuses": None, "short": 0, "reads": []}
    for name, value in fresh.items():
        monkeypatch.setattr(RemoteFileSystem, name, value)
    return RemoteFileSystem


def numbers(
    shards: Sequence[Sequence[int]], row_bytes: int = 8, lanes: int | None = None, block_bytes: int | None = None
) -> Manifest:
    """A manifest of shards of units of so many rows; there are no files."""
    made = [
        Shard(
            f"{i:05}.parquet",
            1,
            "md5:0",
            "parquet",
            tuple(Unit(j, rows, rows * row_bytes, 0, rows * row_bytes) for j, rows in enumerate(units)),
        )
        for i, units in enumerate(shards)
    ]
    manifest = Manifest.of("memory://nothing", made, pa.schema([("x", pa.int64())]))
    return replace(manifest, lanes=lanes or manifest.lanes, block_bytes=block_bytes or manifest.block_bytes)


def some_numbers(seed: int) -> Manifest:
    """A small manifest of random units, lanes and blocks."""
    random = np.random.default_rng(seed)
    shards = [random.integers(1, 40, random.integers(1, 6)).tolist() for _ in range(random.integers(1, 15))]
    return numbers(shards, 8, int(random.integers(1, 12)), int(random.integers(1, 600)))
