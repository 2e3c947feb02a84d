"""The kinds of buckets, each in a module of its own, which is imported with its client when such a store is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from runner.store.place import AZURE, GCS, S3

if TYPE_CHECKING:
    from runner.store.bucket import Bucket


def connect(kind: str, options: Mapping[str, Any]) -> Any:
    """The fsspec file system of a kind of buckets.

    Args:
        options: of its storage, without names of variables.

    Raises:
        ModuleNotFoundError: its package is not installed.
        Unwanted: the credentials are none.
    """
    if kind == S3:
        from runner.store import s3

        return s3.connect(options)
    if kind == GCS:
        from runner.store import gcs

        return gcs.connect(options)
    assert kind == AZURE, kind
    from runner.store import azure

    return azure.connect(options)


def bucket(kind: str, root: str, fs: Any) -> Bucket:
    """A folder in a bucket, by a file system that `connect` has made."""
    if kind == S3:
        from runner.store.s3 import S3Bucket

        return S3Bucket(root, fs)
    if kind == GCS:
        from runner.store.gcs import GcsBucket

        return GcsBucket(root, fs)
    from runner.store.azure import AzureContainer

    return AzureContainer(root, fs)
