"""How contestants that read by pyarrow's file systems open a case's files."""

from __future__ import annotations

from typing import Any

from benchmarks.streaming.case import Case


def arrow_files(case: Case) -> tuple[Any, list[str]]:
    """(pyarrow's file system or None for local files, paths)."""
    if case.server is None:
        return None, list(case.files)
    from pyarrow import fs

    filesystem = fs.S3FileSystem(
        access_key=case.server.key,
        secret_key=case.server.secret,
        endpoint_override=case.server.endpoint,
        region=case.server.region,
        force_virtual_addressing=False,
    )
    return filesystem, [url.removeprefix("s3://") for url in case.files]
