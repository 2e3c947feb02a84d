"""Which version of a file is read: one, and the one that was listed."""

from __future__ import annotations

import errno
import hashlib
import threading

#: The kinds of `SourceFile.etag` that are hashes of the content.
HASHES = ("md5", "sha256")

_HEX = frozenset("0123456789abcdef")
_SHA256 = "sha256:"


class FileChanged(OSError):
    """A file is not what was listed."""

    def __init__(self, found: str) -> None:
        super().__init__(found)
        self.errno = errno.ESTALE  # no word about what is in the file


def plain_tag(told: str) -> str:
    """An ETag without its quotes and its mark of weakness, as `SourceFile.etag` has it behind the colon."""
    return told.removeprefix("W/").strip('"')


def is_md5(tag: str) -> bool:
    """Whether a plain tag has the form of the MD5 that S3 gives objects of one part."""
    return len(tag) == 32 and _HEX.issuperset(tag)


def content(etag: str) -> str:
    """What of a `SourceFile.etag` is the same wherever the content lies: its SHA-256 alone, without the store's tag.

    What a Prep writes into an object store has both, as 'sha256:<hex> md5:<hex>'.
    """
    return etag.partition(" ")[0] if etag.startswith(_SHA256) else etag


def _tag_of_store(etag: str) -> str:
    return etag.partition(" ")[2] if etag.startswith(_SHA256) else etag


class Version:
    """The version of one file: what the listing said of it, and from the first answer on the tag that the server told.

    Args:
        etag: as in `SourceFile.etag`; '' where nothing is known.

    Attributes:
        etag: the same.
    """

    def __init__(self, etag: str = "") -> None:
        self.etag = etag
        kind, _, tag = _tag_of_store(etag).partition(":")
        self._listed, self._is_content = tag, kind == "md5"
        self._told = ""
        self._lock = threading.Lock()

    @property
    def wanted(self) -> str:
        """The plain tag to ask for; '' where none is known.

        The MD5 of the content is none: an object in several parts has another tag, with the same content.
        """
        return self._told or ("" if self._is_content else self._listed)

    def check_whole(self, data: bytes | memoryview) -> None:
        """Compare all bytes of the file, where the server tells no tag and the listing has hashed them itself.

        Raises:
            FileChanged: they are others.
        """
        if self._is_content and hashlib.md5(data, usedforsecurity=False).hexdigest() != self._listed:
            raise FileChanged("the server sends other bytes")

    def check(self, told: str, *, of_content: bool = True) -> None:
        """Compare the tag that came with some bytes. Raises FileChanged if they are of another version.

        Args:
            told: as the server says it; '' where it says none.
            of_content: False where the server's tags have the form of an MD5 and are none (encrypted objects).
        """
        tag = plain_tag(told)
        if not tag:
            return
        with self._lock:
            if self._told:
                same = tag == self._told
            elif self._is_content:
                same = tag == self._listed or not is_md5(tag) or not of_content
            else:
                same = tag == self._listed or not self._listed
            if not same:
                raise FileChanged(f"its tag is {tag}, and was {self._told or self._listed}")
            self._told = tag

    def refused(self) -> FileChanged:
        """The error where a server has no such version any more."""
        return FileChanged(f"it has another tag than {self.wanted}")
