"""Which engine reads a file: the fastest that reads it exactly as fsspec would."""

from __future__ import annotations

import os
from typing import Any

from runner.data.files.changed import Version
from runner.data.files.engines.base import Engine, Unfit
from runner.data.files.engines.generic import Generic

#: Set to "fsspec" it keeps every file with fsspec's own reads.
VARIABLE = "RUNNER_DATA_ENGINE"


def engine(fs: Any, path: str, size: int, version: Version, *, plain: bool = False) -> Engine:
    """The engine for one file.

    Args:
        plain: fsspec's own, for the other was found unfit.
    """
    if not plain and os.environ.get(VARIABLE) != "fsspec":
        try:
            return _direct(fs, path, size, version)
        except Unfit:
            pass
    return Generic(fs, path, size, version)


def _direct(fs: Any, path: str, size: int, version: Version) -> Engine:
    kind = f"{type(fs).__module__}.{type(fs).__name__}"
    if kind == "s3fs.core.S3FileSystem":
        from runner.data.files.engines.s3 import S3

        return S3(fs, path, size, version)
    if kind == "fsspec.implementations.http.HTTPFileSystem":
        from runner.data.files.engines.web import Web

        return Web(fs, path, size, version)
    raise Unfit(kind)
