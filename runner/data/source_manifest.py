"""Data at a URL, as a run reads it: looked at once, when the job is submitted, and kept in the run's bundle."""

from __future__ import annotations

import hashlib
import json

from runner.data.files.listing import infer_format, list_files
from runner.data.manifest import Manifest, from_files
from runner.spec import Dataset

#: Lines of data up to this size are read once at submission: the plan can tell rows, and every type is certain. Of
#: larger data the start of each unit is looked at.
COUNTED_BYTES = 1 << 30


def look(dataset: Dataset) -> Manifest:
    """The manifest of the files behind a dataset's URL.

    Raises:
        DataError: nothing there, not readable, corrupt, schema drift, or an unknown column.
    """
    assert dataset.url is not None
    options = dict(dataset.options)
    files = list_files(dataset.url, options, dataset.format)
    format = dataset.format or infer_format(files, dataset.url)
    manifest = from_files(files, format, options, count=sum(file.size for file in files) <= COUNTED_BYTES)
    return manifest if dataset.columns is None else manifest.select(dataset.columns)


def key(dataset: Dataset) -> str:
    """Where a run's bundle keeps the manifest."""
    identity = json.dumps([dataset.url, dataset.format, dataset.columns], sort_keys=True)
    return f"manifests/{hashlib.sha256(identity.encode()).hexdigest()[:16]}.parquet"
