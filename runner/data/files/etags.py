"""Content hashes of files: the same bytes have the same hash on disk, in memory and on an object store."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import threading
import time
from typing import Any

from runner.data.files import hub
from runner.data.files.engines import wholes
from runner.data.files.local import check_regular
from runner.data.files.ranges import RangeFile

_CHUNK = 1 << 20

#: Local files from this size on are hashed once for all processes: the hash is noted in the user's cache folder.
LARGE_BYTES = 8 << 20
_SETTLED_S = 2.0

#: (path, size, mtime in ns, inode); a file that is replaced or written again has another key.
Key = tuple[str, int, int, int]
_known: dict[Key, str] = {}
_lock = threading.Lock()


def _unlock() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_unlock)


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
    etag = ""
    try:
        etag = _told(info) or f"md5:{_remote_md5(fs, path, int(info['size']))}"
    finally:
        if info.get("size") is not None:
            wholes.listed(path, int(info["size"]), etag)
    return etag


def _told(info: dict[str, Any]) -> str | None:
    """What the store says by itself; a hyphen marks the ETag of a multi-part upload, which is no MD5 of the
    content."""
    if isinstance(info.get("md5Hash"), str):  # of GCS
        return f"md5:{base64.b64decode(info['md5Hash']).hex()}"
    of_azure = (info.get("content_settings") or {}).get("content_md5")
    if isinstance(of_azure, bytes | bytearray):
        return f"md5:{bytes(of_azure).hex()}"
    etag = info.get("ETag") or info.get("etag") or hub.content(info)
    if not isinstance(etag, str):
        return None
    etag = etag.removeprefix("W/").strip('"')
    is_md5 = len(etag) == 32 and all(c in "0123456789abcdef" for c in etag)
    return f"md5:{etag}" if is_md5 else f"etag:{etag}"


def _local_md5(path: str) -> str:
    stat = check_regular(path)
    key = (os.path.abspath(path), stat.st_size, stat.st_mtime_ns, stat.st_ino)
    with _lock:
        if key in _known:
            return _known[key]
    digest = _recall(key) if stat.st_size >= LARGE_BYTES else None
    if digest is None:
        with open(path, "rb", buffering=0) as file:
            if stat.st_size <= _CHUNK:
                digest = hashlib.md5(file.read(), usedforsecurity=False).hexdigest()
            else:
                digest = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        # a file of this very moment may still change without a new modification time
        if stat.st_size >= LARGE_BYTES and time.time() - stat.st_mtime > _SETTLED_S:
            _remember(key, digest)
    with _lock:
        _known[key] = digest
    return digest


def _note(key: Key) -> str:
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(cache, "runner", "etags", hashlib.sha256(key[0].encode()).hexdigest()[:32])


def _recall(key: Key) -> str | None:
    """The hash that an earlier process noted, if the file is still the same."""
    try:
        with open(_note(key), encoding="utf-8") as file:
            noted = json.load(file)
    except (OSError, ValueError):
        return None
    return noted["md5"] if noted.get("key") == list(key) else None


def _remember(key: Key, digest: str) -> None:
    """Notes the hash for later processes; a note that cannot be written only costs them time."""
    note = _note(key)
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(note), exist_ok=True)
        beside = f"{note}.{os.getpid()}.{threading.get_ident()}"
        with open(beside, "w", encoding="utf-8") as file:
            json.dump({"key": list(key), "md5": digest}, file)
        os.replace(beside, note)


def _remote_md5(fs: Any, path: str, size: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    file = RangeFile(fs, path, size)
    while data := file.read(16 * _CHUNK):
        digest.update(data)
    return digest.hexdigest()
