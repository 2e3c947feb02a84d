"""Small files of one folder after another, each read whole by one opening: links are not followed on the way."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterator, Sequence

from runner.data.files.listing import SMALL_BYTES, SourceFile

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW  # a pipe waits for nobody


def contents(base: str, files: Sequence[SourceFile]) -> list[bytes | None]:
    """All bytes of each file, which lie below a folder of this machine.

    None of one that is larger than SMALL_BYTES, has another size than was listed, is no regular file, lies behind a
    link, or cannot be read: `opening.open_input` knows what may be followed, and says what is wrong.

    Args:
        base: the folder, below which the paths of the files lie; a link itself it may be.
    """
    read: list[bytes | None] = []
    with contextlib.ExitStack() as opened:
        known, descriptor = None, -1
        for file in files:
            folder, _, name = file.path.rpartition("/")
            if folder != known:
                opened.close()
                known, descriptor = folder, opened.enter_context(_folder(base, folder))
            read.append(_content(descriptor, name, file.size) if file.size <= SMALL_BYTES else None)
    return read


def md5(data: bytes) -> str:
    """As `etags.content_etag` gives it."""
    return f"md5:{hashlib.md5(data, usedforsecurity=False).hexdigest()}"


@contextlib.contextmanager
def _folder(base: str, folder: str) -> Iterator[int]:
    """A descriptor of a folder below another, which no link leads to; -1 where there is none."""
    try:
        descriptor = os.open(base, _FOLDER)
    except OSError:
        yield -1
        return
    try:
        for name in folder.split("/") if folder else []:
            if name in ("", ".", ".."):
                raise OSError(name)
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
    except OSError:
        os.close(descriptor)
        yield -1
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _content(folder: int, name: str, size: int) -> bytes | None:
    if folder < 0 or name in ("", ".", ".."):
        return None
    try:
        descriptor = os.open(name, _FILE, dir_fd=folder)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        data = os.read(descriptor, size + 1)  # one more shows that it has become larger
    except OSError:
        return None
    finally:
        os.close(descriptor)
    return data if len(data) == size else None
