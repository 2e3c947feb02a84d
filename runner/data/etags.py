"""Content hashes of files: the same bytes have the same hash on disk, in memory and on an object store."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from typing import Any

_CHUNK = 1 << 20

#: (path, size, mtime in ns, inode) -> hex; a file that is replaced or written again has another key.
_known: dict[tuple[str, int, int, int], str] = {}
_lock = threading.Lock()


def content_etag(fs: Any, path: str, info: dict[str, Any]) -> str:
    """The hash of a file's content.

    MD5, because that is what S3 (single-part uploads), GCS and Azure tell without a read; it identifies
    content here and protects against accidents, not against an adversary.

    Args:
        fs: the fsspec file system.
        path: of the file in `fs`.
        info: what `fs` says about the file.

    Returns:
        'md5:<hex>', or 'etag:<...>' where the store knows only a name of its own for this content.

    Raises:
        OSError: the file cannot be read.
    """
    protocol = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
    if protocol in ("file", "local"):
        return f"md5:{_local_md5(path)}"
    if protocol == "memory":
        return f"md5:{hashlib.md5(fs.cat_file(path), usedforsecurity=False).hexdigest()}"
    told = _told(info)
    return told or f"md5:{_remote_md5(fs, path, int(info['size']))}"


def _told(info: dict[str, Any]) -> str | None:
    """What the store says by itself; a hyphen marks the ETag of a multi-part upload, which is no MD5 of the
    content."""
    if isinstance(info.get("md5Hash"), str):
        return f"md5:{base64.b64decode(info['md5Hash']).hex()}"
    etag = info.get("ETag") or info.get("etag")
    if not isinstance(etag, str):
        return None
    etag = etag.removeprefix("W/").strip('"')
    is_md5 = len(etag) == 32 and all(c in "0123456789abcdef" for c in etag)
    return f"md5:{etag}" if is_md5 else f"etag:{etag}"


def _local_md5(path: str) -> str:
    stat = os.stat(path)
    key = (path, stat.st_size, stat.st_mtime_ns, stat.st_ino)
    with _lock:
        if key in _known:
            return _known[key]
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    with _lock:
        _known[key] = digest
    return digest


def _remote_md5(fs: Any, path: str, size: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for start in range(0, size, 16 * _CHUNK):
        digest.update(fs.cat_file(path, start=start, end=min(start + 16 * _CHUNK, size)))
    return digest.hexdigest()
