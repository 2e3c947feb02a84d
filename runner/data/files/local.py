"""The files of this machine's folders: links are followed where that is safe, and only regular files are data."""

from __future__ import annotations

import contextlib
import glob
import operator
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

from runner.errors import DataError

#: Where the files are that this process has open.
_DESCRIPTORS = "/proc/self/fd"
_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def find(root: str, patterns: Sequence[str] | None = None) -> tuple[str, dict[str, dict[str, Any]]]:
    """The base folder (the file itself where `root` is one), and every file: path -> {size, type}.

    Links whose names begin with '.' or '_' (but for '_key=value' folders) are not followed.

    Args:
        patterns: the globs that `root` stands for, if it is one.

    Raises:
        FileNotFoundError: there is no such file or folder.
        DataError: `root` is neither a file nor a folder; a link leads nowhere, in a circle, or to what somebody else
            owns outside of the folder.
    """
    root = os.path.abspath(root)
    if patterns is None:
        info = os.stat(root)
        if stat.S_ISDIR(info.st_mode):
            return root, dict(_walk(root, os.path.realpath(root), (os.path.realpath(root),)))
        _check_regular(root, info)
        return root, {root: _told(info)}
    base = _fixed_part(root)
    real = os.path.realpath(base)
    found: dict[str, dict[str, Any]] = {}
    for path in sorted({path for one in patterns for path in glob.glob(one, recursive=True, include_hidden=True)}):
        found.update(_entry(path.rstrip("/"), real, (real,)))
    return base, found


def is_hidden(name: str) -> bool:
    """Whether a name says that it is not data (the custom of Hive, Spark and pyarrow)."""
    return name.startswith(".") or (name.startswith("_") and "=" not in name)


def check_regular(path: str) -> os.stat_result:
    """What is known of a file. Raises DataError if it is a pipe, a socket or a device, which may never end."""
    info = os.stat(path)
    _check_regular(path, info)
    return info


@contextlib.contextmanager
def opened(path: str, base: str) -> Iterator[tuple[str, int]]:
    """A name under which a regular file can be opened, and its bytes; what is checked is the file that is opened.

    Args:
        base: the dataset's folder; '' where the file is the user's own choice.

    Raises:
        OSError: it cannot be opened.
        DataError: it is a pipe, a socket or a device, or somebody else's link leads there from the folder.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe waits for nobody
    try:
        info = os.fstat(descriptor)
        _check_regular(path, info)
        if base:
            _check_inside(path, base, info)
        known = f"{_DESCRIPTORS}/{descriptor}"
        yield known if os.path.exists(known) else path, info.st_size
    finally:
        os.close(descriptor)


def _check_inside(path: str, base: str, info: os.stat_result) -> None:
    """Raises DataError unless the file that is open is the one at `path`, and all links on the way may be followed."""
    if _has_no_link(path, base, info):
        return
    real, folder = os.path.realpath(path), os.path.realpath(base)
    if not os.path.samestat(os.stat(real), info):
        raise _bad_link(path, "leads to another file than a moment ago", "read it again")
    if real.startswith(folder.rstrip("/") + "/"):
        return
    place, links = base.rstrip("/"), 0
    for name in path[len(place) :].strip("/").split("/"):
        place = f"{place}/{name}"
        own = os.lstat(place)
        if stat.S_ISLNK(own.st_mode):
            links += 1
            _check_link(place, own, folder)
    if not links:
        raise _bad_link(path, f"leads out of the folder, to {real}", "read it again")


def _has_no_link(path: str, base: str, info: os.stat_result) -> bool:
    """Whether no name on the way from the folder to the file is a link, so that it lies in the folder."""
    place = base.rstrip("/")
    own = None
    for name in path[len(place) :].strip("/").split("/"):
        place = f"{place}/{name}"
        own = os.lstat(place)
        if name in ("", ".", "..") or stat.S_ISLNK(own.st_mode):
            return False
    return own is not None and os.path.samestat(own, info)


def _walk(folder: str, base: str, above: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with os.scandir(folder) as found:
            entries = sorted(found, key=operator.attrgetter("name"))
    except PermissionError:
        if is_hidden(os.path.basename(folder)):  # '.snapshots', '.Trash': not data, and perhaps not this user's
            return
        raise
    start = f"{folder.rstrip('/')}/"
    for entry in entries:
        if entry.is_file(follow_symlinks=False):
            yield start + entry.name, _told(entry.stat(follow_symlinks=False))
        else:
            yield from _entry(start + entry.name, base, above)


def _entry(path: str, base: str, above: tuple[str, ...]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The files at a path: itself, or those below, hidden ones too (they tell of tables of other systems).

    Args:
        base: the real path of the dataset's folder.
        above: the real paths of the folders that lead here.
    """
    own = os.lstat(path)
    hidden = is_hidden(os.path.basename(path))
    if stat.S_ISLNK(own.st_mode) and not hidden:
        _check_link(path, own, base)
    elif stat.S_ISLNK(own.st_mode):
        return
    info = os.stat(path)
    if stat.S_ISDIR(info.st_mode):
        real = os.path.realpath(path)
        if real in above:
            raise _bad_link(path, f"leads back to {real}, a folder above it", "remove it")
        yield from _walk(path, base, (*above, real))
    elif stat.S_ISREG(info.st_mode):
        yield path, _told(info)


def _check_link(path: str, own: os.stat_result, base: str) -> None:
    """Raises DataError for a link that leads nowhere, or by which somebody else would have this user read a file.

    Inside the dataset's folder every link is followed. One that leads out of it must be this user's, root's, or of
    the owner of what it leads to: a folder that others write into could else name any file that this user may read.
    """
    real = os.path.realpath(path)
    try:
        target = os.stat(real)
    except OSError as error:
        found = f"leads to {real}, which cannot be read ({error.strerror})"
        raise _bad_link(path, found, "mend it, or remove it") from error
    if real == base or real.startswith(base.rstrip("/") + "/"):
        return
    if own.st_uid not in (os.geteuid(), 0, target.st_uid):
        raise _bad_link(
            path,
            f"leads out of the folder, to {real}, and is not of its owner",
            "copy the file, give its own URL, or make the link yourself",
        )


def _bad_link(path: str, found: str, todo: str) -> DataError:
    return DataError(
        f"a link that {found}",
        allowed="links inside the folder, and links out of it that this user or the file's owner made",
        todo=todo,
        where=path,
    )


def _check_regular(path: str, info: os.stat_result) -> None:
    for is_kind, name in _KINDS:
        if is_kind(info.st_mode):
            raise DataError(
                name, allowed="a file or a folder", todo="write what comes out of it into a file first", where=path
            )


def _told(info: os.stat_result) -> dict[str, Any]:
    return {"size": info.st_size, "type": "file"}


def _fixed_part(pattern: str) -> str:
    """The folder above the first part of a glob that is not a plain name."""
    parts = pattern.split("/")
    plain = next((i for i, part in enumerate(parts) if glob.has_magic(part) or "{" in part), len(parts) - 1)
    return "/".join(parts[:plain]) or "/"
