"""A store in a bucket of S3."""

from __future__ import annotations

import asyncio
import datetime
import functools
import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import fsspec
from fsspec.asyn import sync

from runner.store.bucket import Bucket
from runner.store.place import Found
from runner.untrusted.names import KEY

#: There already; another conditional write of the same key is under way.
_TAKEN = ("PreconditionFailed", "412", "ConditionalRequestConflict", "409")


def connect(options: Mapping[str, Any]) -> Any:
    """The fsspec file system of S3.

    Args:
        options: of its storage, without names of variables.
    """
    logging.getLogger("aiobotocore").setLevel(logging.WARNING)  # it tells where credentials come from
    kept = {name: value for name, value in options.items() if name != "profile"}
    kept.setdefault("use_listings_cache", False)  # another process writes beside us
    kept.setdefault("session", _session(options.get("profile"), os.getpid()))
    return fsspec.filesystem("s3", **kept)


@functools.cache
def _session(profile: str | None, process: int) -> Any:
    """One for all stores of a process, that reads moments quickly: of what botocore does with a listing, four fifths is
    to try every form of one for each object.
    """
    from aiobotocore.session import AioSession

    session = AioSession(profile=profile)
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_moment)
    return session


def _moment(told: str | int | float) -> datetime.datetime:
    """A moment in the form of a listing, or in any other that botocore knows."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.datetime.fromisoformat(str(told))
    except ValueError:
        return parse_timestamp(told)


class S3Bucket(Bucket):
    """Objects of S3."""

    def create(self, key: str, data: bytes) -> bool:
        """PUT with ``If-None-Match: *``, which the server refuses with 412 where the key exists.

        https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        bucket, _, name = self.path(KEY(key)).partition("/")
        try:
            self.fs.call_s3("put_object", Bucket=bucket, Key=name, Body=data, IfNoneMatch="*")
        except FileExistsError:
            return False
        except OSError as error:
            if _code(error) in _TAKEN:
                return False
            raise
        return True

    def put(self, key: str, data: bytes) -> None:
        """PUT."""
        self.fs.pipe_file(self.path(KEY(key)), data)

    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> None:
        """PUT, in parts where it is large."""
        self.fs.put_file(os.fspath(local_path), self.path(KEY(key)))

    def copy(self, source: str, key: str) -> None:
        """A copy that the server makes."""
        self.fs.cp_file(self.path(source), self.path(key))

    def delete(self, key: str) -> None:
        """DELETE."""
        self.fs.rm_file(self.path(key))

    def delete_tree(self, prefix: str) -> None:
        """A listing, and many keys a request."""
        self.fs.rm(self.path(prefix), recursive=True)

    def get(self, key: str, most: int | None) -> bytes:
        """One request, also for what is absent."""
        path = self.path(key)
        if most is not None:
            data: bytes | int | None = sync(self.fs.loop, _read_within, self.fs, path, most)
            if isinstance(data, int):
                raise self.too_large(key, data, most)
            if data is not None:
                return data
        return bytes(self.fs.cat_file(path, max_concurrency=1))  # without a size to cut into parts

    def get_all(self, wanted: Mapping[str, int]) -> dict[str, bytes]:
        """Many objects at once: key -> bytes that it may have."""
        paths = {self.path(key): most for key, most in wanted.items()}
        found = sync(self.fs.loop, _read_all, self.fs, paths)
        return {key: data for key, data in zip(wanted, found, strict=True) if isinstance(data, bytes)}

    def copy_out(self, key: str, path: str, most: int | None) -> None:
        """In parts where it is large."""
        size = self.fs.info(self.path(key))["size"] if most is not None else 0
        if most is not None and size > most:
            raise self.too_large(key, size, most)
        self.fs.get_file(self.path(key), path)

    def exists(self, key: str) -> bool:
        """Or anything below it."""
        return bool(self.fs.exists(self.path(key)))

    def names(self, prefix: str, begins: str) -> Iterable[str]:
        """The server is asked for these alone."""
        return (found.key for found in self._listed(prefix, begins, folders=True))

    def objects(self, prefix: str) -> Iterable[Found]:
        """What lies directly below, with the tag of each."""
        return self._listed(prefix, "", folders=False)

    def find(self, prefix: str, links: bool) -> Iterator[Found]:
        """There are no links."""
        top = self.path(prefix)
        for path, info in self.fs.find(top, detail=True, refresh=True).items():
            yield Found(path[len(top) :].removeprefix("/"), int(info["size"]), info["LastModified"].timestamp())

    def _listed(self, prefix: str, begins: str, folders: bool) -> Iterator[Found]:
        """What lies directly below, page by page. (What fsspec lists of an absent folder is all that is beside it.)"""
        bucket, _, top = self.path(prefix).partition("/")
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": f"{top}/{begins}" if top else begins, "Delimiter": "/"}
        cut = len(top) + 1 if top else 0
        while True:
            page = self.fs.call_s3("list_objects_v2", **request)
            for each in page.get("Contents", ()):
                at = each["LastModified"].timestamp()
                yield Found(each["Key"][cut:], int(each["Size"]), at, each.get("ETag", ""))
            if folders:
                yield from (Found(each["Prefix"][cut:-1], 0, 0.0) for each in page.get("CommonPrefixes", ()))
            if not page.get("IsTruncated"):
                return
            request["ContinuationToken"] = page["NextContinuationToken"]


def _code(error: BaseException) -> str:
    """The word by which S3 refused a request; s3fs keeps the answer as the cause of its own error."""
    response = getattr(error.__cause__, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


async def _read_all(fs: Any, paths: Mapping[str, int]) -> list[bytes | int | None]:
    """Of each object what `_read_within` gives; None of one that is not there."""
    answers = await asyncio.gather(
        *(_read_within(fs, path, most) for path, most in paths.items()), return_exceptions=True
    )
    found: list[bytes | int | None] = []
    for answer in answers:
        if isinstance(answer, BaseException) and not isinstance(answer, FileNotFoundError):
            raise answer
        found.append(None if isinstance(answer, BaseException) else answer)
    return found


async def _read_within(fs: Any, path: str, most: int) -> bytes | int | None:
    """An object's content by one request; its size if that is more than `most`; None where reading was cut short."""
    from aiohttp import ClientError
    from botocore.exceptions import HTTPClientError

    bucket, _, name = path.partition("/")
    answer = await fs._call_s3("get_object", Bucket=bucket, Key=name)
    try:
        size = int(answer["ContentLength"])
        return size if size > most else bytes(await answer["Body"].read())
    except (ClientError, HTTPClientError):
        return None
    finally:
        answer["Body"].close()
