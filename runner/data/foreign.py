"""Data at a URL, as a run reads it: looked at once, when the job is submitted, and kept in the run's bundle."""

from __future__ import annotations

import hashlib
import json

from runner.data.manifest import UNCOUNTED, Manifest, build
from runner.spec import Dataset

#: Lines of smaller data are counted at submission, so that the plan can tell rows; larger data is counted when read.
COUNTED_BYTES = 64 << 20


def look(dataset: Dataset) -> Manifest:
    """The manifest of the files behind a dataset's URL.

    Raises:
        DataError: nothing there, not readable, corrupt, schema drift, or an unknown column.
    """
    assert dataset.url is not None
    manifest = build(dataset.url, dataset.format, dict(dataset.options), dataset.columns)
    if manifest.rows == UNCOUNTED and manifest.bytes <= COUNTED_BYTES:
        return manifest.counted()
    return manifest


def key(dataset: Dataset) -> str:
    """Where a run's bundle keeps the manifest."""
    identity = json.dumps([dataset.url, dataset.format, dataset.columns], sort_keys=True)
    return f"manifests/{hashlib.sha256(identity.encode()).hexdigest()[:16]}.parquet"
