"""Copies on this machine: whole under their name, or not there; and why a disk here refuses one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runner.errors import InputError, StoreRefused

#: What a disk says whose files are full, or may not be as large: of a copy only the one that is written.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: What a disk says that has no links, or no more for this file.
NO_LINKS = (errno.EMLINK, errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP)
#: What a disk says of a name under which something lies.
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR, errno.EISDIR)


def place(dest: Path, name: str) -> Path:
    """Where a copy goes: below `dest` under its own name if that is a folder, or to `dest` itself.

    Raises:
        InputError: something lies there, be it a link that leads nowhere.
    """
    target = dest / name if os.path.isdir(dest) else dest
    if os.path.lexists(target):
        raise _taken(target)
    return target


@contextlib.contextmanager
def whole(target: Path) -> Iterator[Path]:
    """A path beside `target` to make a file or a folder at, which then gets that name in one move.

    Nothing has the name if the body raises, makes nothing, or is killed; folders above it are made.

    Raises:
        InputError: something lies there by now, or the disk here refuses.
    """
    part = ""
    try:
        with explained(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            part = tempfile.mkdtemp(prefix=".runner-copy-", dir=target.parent)
        made = Path(part, "copy")
        with explained(target, but=FileNotFoundError):  # which is the store's word
            yield made
        if made.exists():
            with explained(target):
                _move(made, target)
    finally:
        if part:
            shutil.rmtree(part, ignore_errors=True)


def _move(made: Path, target: Path) -> None:
    try:
        if made.is_dir():
            os.rename(made, target)  # a folder takes the place of nothing but an empty one
        else:
            _link(made, target)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        raise _taken(target) from None


def _link(made: Path, target: Path) -> None:
    """Unlike a renamed file, a link takes the place of none."""
    try:
        os.link(made, target)
    except OSError as error:
        if error.errno not in NO_LINKS or os.path.lexists(target):
            raise
        os.rename(made, target)


def _taken(target: Path) -> InputError:
    return InputError(f"{target} is there already", allowed="a name that is free", todo="give another, or remove it")


@contextlib.contextmanager
def explained(target: Path, but: type[OSError] | tuple[type[OSError], ...] = ()) -> Iterator[None]:
    """Turns what the disk refuses of a copy into an error that says what to do.

    Args:
        but: what the body raises on its own account.

    Raises:
        StoreRefused: for any OSError.
    """
    try:
        yield
    except but:
        raise
    except OSError as error:
        raise _refused(error, target) from error


def _refused(error: OSError, target: Path) -> StoreRefused:
    path, other = _place_of(error, target), "choose another folder"
    said = {
        errno.EACCES: (f"no permission to write to {path}", "a folder that this user may write", other),
        errno.EPERM: (f"no permission to write to {path}", "a folder that this user may write", other),
        errno.EROFS: (f"{path} lies in a file system that is read-only", "a folder that can be written", other),
        errno.ENOTDIR: (f"{path} is no folder", "folders above a copy, or none yet", "give another name"),
        errno.EEXIST: (f"{path} is no folder", "folders above a copy, or none yet", "give another name"),
        errno.ENOSPC: (f"no space left while writing {target}", "room for all of it", f"free space, or {other}"),
        errno.EDQUOT: (f"no space left for this user at {target}", "room for all of it", f"free space, or {other}"),
        errno.EFBIG: (
            f"a file of {target} is larger than one may be here", "files of that size",
            f"raise the limit (`ulimit -f`), or {other}",
        ),
        errno.ENAMETOOLONG: (f"the name of {target} is too long", "names that the disk takes", "give a shorter one"),
    }  # fmt: skip
    words = (os.strerror(error.errno) if error.errno else str(error)).lower()
    otherwise = f"{target} cannot be written: {words}", "a folder that can be written", other
    found, allowed, todo = said.get(error.errno or 0, otherwise)
    return StoreRefused(found, allowed=allowed, todo=todo)


def _place_of(error: OSError, target: Path) -> Path:
    """What the refusal is about: of `target` and what is above it the first that is there and would be written to."""
    above = [path for path in target.absolute().parents if os.path.lexists(path)]
    if error.errno in (errno.ENOTDIR, errno.EEXIST):
        above = [path for path in above if not path.is_dir()] or above
    return above[0]
