"""A store in a bucket of objects: each appears whole, and only if it is absent where that is asked for."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from fsspec.asyn import sync

from runner.store.place import Found, Place, Unanswered
from runner.untrusted.names import KEY

T = TypeVar("T")
#: Larger objects are copied out in parts of so many bytes, so many of them at once.
PART_BYTES, PARTS_AT_ONCE = 16 << 20, 8
#: Objects that one request lists.
PAGE = 1000
#: Objects that are removed at once.
_REMOVED_AT_ONCE = 32
#: Seconds that bound the pauses before a request is sent again, here: what a server does not answer for longer is for
#: the `patience_s` of a store.
_PAUSES_S = (0.2, 0.4, 0.8, 1.6)
_random = random.SystemRandom()  # a training's own numbers stay as they are


class Bucket(Place):
    """Objects of a bucket.

    Args:
        fs: the fsspec file system.
    """

    def __init__(self, root: str, fs: Any) -> None:
        super().__init__(root)
        self.fs = fs

    def point(self, key: str, target: str) -> None:
        """There are no links: nothing happens."""

    @abc.abstractmethod
    def objects(self, prefix: str) -> Iterable[Found]:
        """What lies directly below, with the tag of each."""

    @abc.abstractmethod
    def get_all(self, wanted: Mapping[str, int]) -> dict[str, bytes]:
        """Many objects at once: key -> bytes that it may have."""


class Objects(Bucket):
    """A bucket whose API is told by a dozen requests, each sent again a few times while it is not answered.

    A request raises FileNotFoundError, PermissionError, `Unanswered`, or OSError for what will never be right; names
    are those of objects, without the bucket's.
    """

    def __init__(self, root: str, fs: Any) -> None:
        super().__init__(root, fs)
        self.bucket, _, self._top = root.partition("/")

    # -- requests ------------------------------------------------------------------------------------------------

    @abc.abstractmethod
    async def _create(self, name: str, data: bytes) -> bool:
        """Make an object that is absent; whether it was."""

    @abc.abstractmethod
    async def _put(self, name: str, data: bytes) -> None:
        """Make or replace an object."""

    @abc.abstractmethod
    async def _upload(self, name: str, path: str) -> None:
        """The same with the content of a large file, in parts; it appears with the last."""

    @abc.abstractmethod
    async def _copy(self, source: str, name: str) -> None:
        """The same with that of another object, within the server; it is done when this returns."""

    @abc.abstractmethod
    async def _delete(self, name: str) -> None:
        """Remove an object."""

    @abc.abstractmethod
    async def _read(self, name: str, most: int | None) -> bytes | int:
        """An object's content by one request; its size if that is more than `most`."""

    @abc.abstractmethod
    async def _stat(self, name: str) -> tuple[int, str]:
        """An object's size, and what its content is known by as long as nobody replaces it."""

    @abc.abstractmethod
    async def _part(self, name: str, version: str, start: int, size: int) -> bytes:
        """So many bytes of an object from `start` on; an OSError if it has been replaced."""

    @abc.abstractmethod
    async def _list(self, prefix: str, deep: bool, most: int | None = None) -> tuple[list[Found], list[str]]:
        """Objects whose names begin so, and folders, unless it is `deep`: names up to the next '/' behind the prefix.

        Args:
            most: how many are enough.
        """

    # -- what a place is asked for -------------------------------------------------------------------------------

    def create(self, key: str, data: bytes) -> bool:
        """By one request, which the server refuses where the key exists."""
        return self._ask(self._create, self._name(KEY(key)), data)

    def put(self, key: str, data: bytes) -> None:
        """By one request."""
        self._ask(self._put, self._name(KEY(key)), data)

    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> None:
        """In parts where it is large."""
        name, path = self._name(KEY(key)), os.fspath(local_path)
        if os.path.getsize(path) > PART_BYTES:
            return self._ask(self._upload, name, path)
        with open(path, "rb") as file:
            return self._ask(self._put, name, file.read())

    def copy(self, source: str, key: str) -> None:
        """A copy that the server makes."""
        self._ask(self._copy, self._name(KEY(source)), self._name(KEY(key)))

    def delete(self, key: str) -> None:
        """One request."""
        self._ask(self._delete, self._name(KEY(key)))

    def delete_tree(self, prefix: str) -> None:
        """A listing, and a request an object, many at once; what stands for a folder goes last, the deepest first."""
        found, _ = self._ask(self._list, self._below(prefix), True)
        if not found:
            return self.delete(prefix)
        sync(self.fs.loop, self._delete_all, [each.key for each in found if not each.is_folder])
        for folder in sorted((each.key for each in found if each.is_folder), reverse=True):
            sync(self.fs.loop, self._delete_all, [folder])

    def get(self, key: str, most: int | None) -> bytes:
        """One request, also for what is absent."""
        found = self._ask(self._read, self._name(KEY(key)), most)
        if isinstance(found, int):
            raise self.too_large(key, found, most or 0)
        return found

    def get_all(self, wanted: Mapping[str, int]) -> dict[str, bytes]:
        """Many objects at once: key -> bytes that it may have."""
        found = sync(self.fs.loop, self._read_all, {self._name(KEY(key)): most for key, most in wanted.items()})
        return {key: data for key, data in zip(wanted, found, strict=True) if isinstance(data, bytes)}

    def copy_out(self, key: str, path: str, most: int | None) -> None:
        """In parts, all of one and the same content."""
        name = self._name(KEY(key))
        size, version = self._ask(self._stat, name)
        if most is not None and size > most:
            raise self.too_large(key, size, most)
        with open(path, "xb") as file:
            sync(self.fs.loop, self._copy_parts, name, version, size, file.fileno())

    def exists(self, key: str) -> bool:
        """Or anything below it."""
        below = self._below(key)
        with contextlib.suppress(FileNotFoundError):
            if below:
                self._ask(self._stat, below[:-1])
                return True
        return any(self._ask(self._list, below, True, 1))

    def names(self, prefix: str, begins: str) -> Iterable[str]:
        """The server is asked for these alone."""
        above = self._below(prefix)
        files, folders = self._ask(self._list, above + begins, False)
        yield from (found.key[len(above) :] for found in files if not found.is_folder)
        yield from (folder[len(above) : -1] for folder in folders)

    def objects(self, prefix: str) -> Iterable[Found]:
        """What lies directly below, with the tag of each."""
        above = self._below(prefix)
        files, _ = self._ask(self._list, above, False)
        return [each for each in _cut(files, len(above)) if not each.is_folder]

    def find(self, prefix: str, links: bool) -> Iterator[Found]:
        """There are no links."""
        above = self._below(prefix)
        files, _ = self._ask(self._list, above, True)
        found = [each for each in _cut(files, len(above)) if not each.is_folder]
        if not found and prefix:
            name = self._name(prefix)
            files, _ = self._ask(self._list, name, True)
            found = [each.renamed("") for each in files if each.key == name]
        yield from found

    # -- within --------------------------------------------------------------------------------------------------

    def _name(self, key: str = "") -> str:
        return self._joined(self._top, key)

    @staticmethod
    def _joined(above: str, below: str) -> str:
        return "/".join(filter(None, (above, below)))

    def _below(self, prefix: str) -> str:
        """What the names of all objects below begin with."""
        name = self._name(KEY(prefix) if prefix else "")
        return f"{name}/" if name else ""

    def _ask(self, request: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        answer: T = sync(self.fs.loop, again, request, *arguments)
        return answer

    async def _delete_all(self, names: list[str]) -> None:
        async def delete(name: str) -> None:
            with contextlib.suppress(FileNotFoundError):
                await again(self._delete, name)

        for at in range(0, len(names), _REMOVED_AT_ONCE):
            await asyncio.gather(*map(delete, names[at : at + _REMOVED_AT_ONCE]))

    async def _read_all(self, wanted: Mapping[str, int]) -> list[bytes | int | None]:
        """Of each object what `_read` gives; None of one that is not there, or does not come whole."""

        async def read(name: str, most: int) -> bytes | int | None:
            try:
                return await again(self._read, name, most)
            except FileNotFoundError:
                return None

        return await asyncio.gather(*(read(name, most) for name, most in wanted.items()))

    async def _copy_parts(self, name: str, version: str, size: int, file: int) -> None:
        free = asyncio.Semaphore(PARTS_AT_ONCE)

        async def copy(start: int) -> None:
            async with free:
                data = await again(self._part, name, version, start, min(PART_BYTES, size - start))
                await asyncio.to_thread(os.pwrite, file, data, start)

        await asyncio.gather(*map(copy, range(0, size, PART_BYTES)))


async def again(request: Callable[..., Awaitable[T]], *arguments: Any) -> T:
    """What a request returns, sent again a few times while it is not answered. Raises what it raised last."""
    for pause in _PAUSES_S:
        try:
            return await request(*arguments)
        except Unanswered:
            await asyncio.sleep(_random.uniform(pause / 2, pause))
    return await request(*arguments)


def _cut(files: Iterable[Found], above: int) -> list[Found]:
    """The same with keys of what lies below; the object that has a folder's own name is none."""
    return [each.renamed(each.key[above:]) for each in files if each.key[above:]]
