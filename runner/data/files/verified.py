"""Whether a file still has the content that it had when it was listed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from runner.data.files.changed import HASHES, content
from runner.data.files.opening import open_input
from runner.errors import DataError

#: What people call the hashes.
SHOWN = {"md5": "MD5", "sha256": "SHA-256"}

_CHUNK = 4 << 20


def check_content(url: str, size: int, etag: str, options: Mapping[str, Any] | None, path: str) -> None:
    """Read a whole file and compare its hash with that of the listing; nothing where the listing has none.

    Args:
        size, etag, path: as of a shard.

    Raises:
        DataError: it is another.
        OSError: the file cannot be read.
    """
    kind, _, listed = content(etag).partition(":")
    if kind not in HASHES:
        return
    digest = hashlib.new(kind, usedforsecurity=False)
    with open_input(url, size, options, path=path, etag=etag) as source:
        while data := source.read(_CHUNK):
            digest.update(data)
    if digest.hexdigest() != listed:
        raise DataError(
            f"its content is not what was listed: its {SHOWN[kind]} is {digest.hexdigest()}, {listed} was listed",
            allowed="the files that were listed, as they were then (verify=True)",
            todo="put the old one back; or list again: make the Stream or submit the job anew, which reads the new one",
        )
