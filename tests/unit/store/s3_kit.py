"""An object store in memory that answers what `Store` asks of S3, and counts the requests."""

from __future__ import annotations

import asyncio
import collections
import datetime
import errno
import hashlib
from typing import Any

from fsspec.asyn import get_loop, sync

from runner.store import Store


class MemoryS3:
    """What `Store` uses of s3fs.

    Args:
        page: keys that one listing answers with.
    """

    def __init__(self, page: int = 1000) -> None:
        self.objects: dict[str, bytes] = {}
        self.requests: collections.Counter[str] = collections.Counter()
        self.at_once = self._under_way = 0
        self.page, self.loop = page, get_loop()

    # -- what s3fs has -------------------------------------------------------------------------------------------

    def call_s3(self, method: str, **asked: Any) -> Any:
        return sync(self.loop, self._call_s3, method, **asked)

    async def _call_s3(self, method: str, **asked: Any) -> Any:
        self.requests[method] += 1
        self._under_way += 1
        self.at_once = max(self.at_once, self._under_way)
        await asyncio.sleep(0)
        self._under_way -= 1
        return getattr(self, f"_{method}")(**asked)

    def pipe_file(self, path: str, data: bytes) -> None:
        self.requests["put_object"] += 1
        self.objects[path] = data

    def rm_file(self, path: str) -> None:
        self.requests["delete_object"] += 1
        self.objects.pop(path, None)

    def cat_file(self, path: str, **_: Any) -> bytes:
        self.requests["get_object"] += 1
        return self.objects[path] if path in self.objects else self._absent(path)

    def exists(self, path: str) -> bool:
        self.requests["head_object"] += 1
        return any(key == path or key.startswith(f"{path}/") for key in self.objects)

    # -- how it answers ------------------------------------------------------------------------------------------

    def _put_object(self, Bucket: str, Key: str, Body: bytes, IfNoneMatch: str) -> None:
        if f"{Bucket}/{Key}" in self.objects:
            raise FileExistsError(Key)
        self.objects[f"{Bucket}/{Key}"] = Body

    def _get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        data = self.objects.get(f"{Bucket}/{Key}")
        return self._absent(Key) if data is None else {"ContentLength": len(data), "Body": _Body(data)}

    def _list_objects_v2(self, Bucket: str, Prefix: str, Delimiter: str, ContinuationToken: str = "") -> dict[str, Any]:
        keys = sorted(key.partition("/")[2] for key in self.objects if key.startswith(f"{Bucket}/{Prefix}"))
        cut = {key: key.find(Delimiter, len(Prefix)) for key in keys}
        shown = sorted({key if at < 0 else key[: at + 1] for key, at in cut.items()})
        rest = [key for key in shown if key > ContinuationToken]
        page = rest[: self.page]
        return {
            "Contents": [self._told(f"{Bucket}/{key}", key) for key in page if not key.endswith(Delimiter)],
            "CommonPrefixes": [{"Prefix": key} for key in page if key.endswith(Delimiter)],
            "IsTruncated": len(rest) > len(page), "NextContinuationToken": page[-1] if page else "",
        }  # fmt: skip

    def _told(self, path: str, key: str) -> dict[str, Any]:
        data = self.objects[path]
        tag = f'"{hashlib.md5(data).hexdigest()}"'
        return {"Key": key, "Size": len(data), "LastModified": datetime.datetime.now(), "ETag": tag}

    @staticmethod
    def _absent(path: str) -> Any:
        raise FileNotFoundError(errno.ENOENT, "no such key", path)


class _Body:
    def __init__(self, data: bytes) -> None:
        self._data = data

    async def read(self) -> bytes:
        return self._data

    def close(self) -> None:
        """Nothing is held."""


def memory_store(page: int = 1000) -> tuple[Store, MemoryS3]:
    """A store in memory, and what counts its requests."""
    store, memory = Store("s3://lake/runs"), MemoryS3(page)
    store._fs = memory
    return store, memory
