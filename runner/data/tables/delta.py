"""Delta Lake: the files of a version, as `deltalake` (delta-rs) reads them from the table's log."""

from __future__ import annotations

import datetime
import decimal
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

import pyarrow as pa

from runner.code import extras
from runner.data.tables.base import Part, Table, address, explained, made, refused
from runner.errors import DataError
from runner.store import credentials
from runner.untrusted.paths import is_inner

#: Features of the protocol that change nothing for whoever reads whole files, or are looked at here.
_HARMLESS = {"deletionVectors", "columnMapping", "timestampNtz", "vacuumProtocolCheck", "v2Checkpoint"} | {
    "typeWidening",
    "typeWidening-preview",
}
_REWRITE = "rewrite the table without it, or read the table with its own library in a Dataset(make=...)"
#: fsspec's option -> that of delta-rs, by scheme.
_OPTIONS = {
    "s3": {
        "key": "AWS_ACCESS_KEY_ID",
        "secret": "AWS_SECRET_ACCESS_KEY",
        "token": "AWS_SESSION_TOKEN",
        "endpoint_url": "AWS_ENDPOINT_URL",
        "region_name": "AWS_REGION",
    },
    "gs": {"token": "GOOGLE_SERVICE_ACCOUNT"},
    "az": {
        "account_name": "AZURE_STORAGE_ACCOUNT_NAME",
        "account_key": "AZURE_STORAGE_ACCOUNT_KEY",
        "sas_token": "AZURE_STORAGE_SAS_TOKEN",
    },
}
_SCHEMES = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az"}


def opened(url: str, options: Mapping[str, Any] | None, version: int | None) -> Table:
    """The files of a version.

    Args:
        version: None takes the newest.

    Raises:
        MissingPackage: deltalake is not installed.
        DataError: there is no such table or version, it has deletion vectors, column mapping or what else is not in
            its files, or a file is gone.
    """
    extras.need("delta", "a Delta Lake table")
    url = url.rstrip("/")
    with explained(url, "Delta Lake"):
        table = _table(url, options, version)
        what = f"version {table.version()} of the Delta Lake table"
        _check(url, what, table)
        columns = pa.schema(table.schema().to_arrow())
        keys = list(table.metadata().partition_columns)
        rows = pa.table(table.get_add_actions(flatten=False)).to_pylist()
    parts = [_part(url, what, row, keys) for row in rows]
    return made(url, options, parts, columns, what)


def _table(url: str, options: Mapping[str, Any] | None, version: int | None) -> Any:
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError

    found, given = _address(url), _storage_options(url, options)
    try:
        return DeltaTable(found, version=version, storage_options=given)
    except DeltaError as error:
        newest = None if version is None else DeltaTable(found, storage_options=given).version()
        if newest is None or version <= newest:
            raise
        raise DataError(
            f"no version {version} of the Delta Lake table",
            allowed=f"versions up to {newest}, the newest",
            todo="choose one of them, or leave version= out",
            where=url,
        ) from error


def _check(url: str, what: str, table: Any) -> None:
    protocol, configuration = table.protocol(), table.metadata().configuration
    mode = configuration.get("delta.columnMapping.mode", "none")
    if mode != "none":
        raise refused(url, what, f"column mapping (by {mode})", _REWRITE)
    features = set(protocol.reader_features or ())
    if strange := sorted(features - _HARMLESS):
        raise refused(url, what, f"the feature '{strange[0]}'", _REWRITE)
    if "deletionVectors" in features and _has_deletion_vectors(table):
        raise refused(
            url,
            what,
            "deletion vectors: rows that are in its files and were deleted",
            "write the deletions into the files (REORG TABLE ... APPLY (PURGE)), or read the table with its library "
            "in a Dataset(make=...)",
        )


def _has_deletion_vectors(table: Any) -> bool:
    """Whether a file has one. They are not there to be read, so one that cannot be read is one."""
    try:
        return next(iter(pa.RecordBatchReader.from_stream(table.deletion_vectors())), None) is not None
    except Exception:  # a kind of the library's own
        return True


def _part(url: str, what: str, row: Mapping[str, Any], keys: list[str]) -> Part:
    path = unquote(row["path"])
    if not is_inner(path):
        raise DataError(
            f"{what} has a file elsewhere ({path[:200]})",
            allowed="files below the table's folder",
            todo="copy the table with its files (a deep clone)",
            where=url,
        )
    values = row.get("partition") or {}
    return Part(path, int(row["size_bytes"]), {key: _text(url, key, values.get(key)) for key in keys})


def _text(url: str, key: str, value: Any) -> str | None:
    """A partition value as it is cast back to its type."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ").replace("+00:00", "Z")
    if isinstance(value, int | float | decimal.Decimal | datetime.date):
        return str(value)
    raise refused(url, "the Delta Lake table", f"partitions by '{key}', {type(value).__name__}", _REWRITE)


def _address(url: str) -> str:
    url = address(url)
    scheme, there, rest = url.partition("://")
    return f"{_SCHEMES.get(scheme, scheme)}://{rest}" if there else url


def _storage_options(url: str, options: Mapping[str, Any] | None) -> dict[str, str]:
    """What opens the same store for delta-rs, which takes the rest from the same environment as fsspec does."""
    scheme = url.partition("://")[0] if "://" in url else ""
    names = _OPTIONS.get(_SCHEMES.get(scheme, scheme), {})
    given = dict(credentials.resolved(options))
    given |= {name: value for name, value in (given.get("client_kwargs") or {}).items() if name in names}
    found = {names[name]: str(value) for name, value in given.items() if name in names and value is not None}
    if scheme.startswith("s3"):
        endpoint = found.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT_URL") or ""
        if endpoint.startswith("http://"):
            found["AWS_ALLOW_HTTP"] = "true"
        if endpoint:
            found.setdefault("AWS_REGION", os.environ.get("AWS_REGION") or "us-east-1")
        if given.get("anon"):
            found["AWS_SKIP_SIGNATURE"] = "true"
    return found
