"""Where a store's files lie, and what a store asks of that: a `folder`, or a bucket of `s3`, `gcs` or `azure`."""

from __future__ import annotations

import abc
import dataclasses
import os
from collections.abc import Iterable
from dataclasses import dataclass

from runner.errors import StoreBroken
from runner.untrusted.names import KEY
from runner.untrusted.shapes import broken

#: The kinds of place.
LOCAL, S3, GCS, AZURE = "file", "s3", "gcs", "azure"


class Unanswered(OSError):
    """An object store did not answer, or said that it cannot now."""


class Unwanted(OSError):
    """What an object store, or its client here, will never do: there are no credentials, or no such request."""


@dataclass(frozen=True)
class Found:
    """A file: its key below what was asked for ("" for that itself), its bytes, and when it was written (in seconds
    since 1970); in an object store also its tag, which is the MD5 of its content in most of them.
    """

    key: str
    bytes: int
    at: float
    tag: str = ""
    is_folder: bool = False  # an object that only says that there is a folder of its name

    def renamed(self, key: str) -> Found:
        """The same by another key."""
        return dataclasses.replace(self, key=key)


class Place(abc.ABC):
    """Files below a root. Each method does what that of `Store` of its name promises.

    Args:
        root: its full path in the file system.
    """

    def __init__(self, root: str) -> None:
        self.root = root

    def path(self, key: str = "") -> str:
        """The full path of ``key`` inside the file system. Raises InputError for what is no key (see `names.KEY`)."""
        return f"{self.root}/{KEY(key)}" if key else self.root

    @abc.abstractmethod
    def create(self, key: str, data: bytes) -> bool:
        """Make a whole object, or none; of two writers exactly one makes it."""

    @abc.abstractmethod
    def put(self, key: str, data: bytes) -> None:
        """Make or replace a whole object at once."""

    @abc.abstractmethod
    def put_file(self, key: str, local_path: str | os.PathLike[str]) -> None:
        """The same with the content of a local file."""

    def take_file(self, key: str, local_path: str | os.PathLike[str]) -> None:
        """The same with a local file that nobody changes any more."""
        self.put_file(key, local_path)

    @abc.abstractmethod
    def copy(self, source: str, key: str) -> None:
        """The same with that of another object, which is not read here."""

    @abc.abstractmethod
    def point(self, key: str, target: str) -> None:
        """Make a link to a folder beside it, or remove it."""

    @abc.abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object. Raises FileNotFoundError, or nothing, if it is absent."""

    @abc.abstractmethod
    def delete_tree(self, prefix: str) -> None:
        """Remove everything below. Raises FileNotFoundError if nothing is there."""

    @abc.abstractmethod
    def get(self, key: str, most: int | None) -> bytes:
        """The content of an object, of which larger ones are refused before they are read."""

    @abc.abstractmethod
    def copy_out(self, key: str, path: str, most: int | None) -> None:
        """Write it to a new local file."""

    @abc.abstractmethod
    def exists(self, key: str) -> bool:
        """Whether there is an object or a folder."""

    @abc.abstractmethod
    def names(self, prefix: str, begins: str) -> Iterable[str]:
        """What lies directly below and begins so. Raises FileNotFoundError, or gives nothing, for an absent folder."""

    @abc.abstractmethod
    def find(self, prefix: str, links: bool) -> Iterable[Found]:
        """Every file below; with `links` also the links to folders, where there are links."""

    def too_large(self, key: str, size: int, most: int) -> StoreBroken:
        """The error for an object of more bytes than it may have."""
        return broken(self.path(key), f"{size:,} bytes, and at most {most:,} are read")
