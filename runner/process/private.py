"""Folders and words of a run that other users of this machine must not have in hand."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

#: In the place of an argument: it comes over standard input, for what a command line holds, everybody can read.
BY_STDIN = "-"


def own_folder(parent: Path, name: str) -> Path | None:
    """The folder of this user's that is called `name`, or begins with it where another user was there first.

    Args:
        parent: a folder where others may write too, as /tmp.
    """
    first = parent / name
    if is_own(first):
        return first
    return min((path for path in parent.glob(f"{name}-*") if is_own(path)), default=None)


def make_own_folder(parent: Path, name: str) -> Path:
    """That folder, made if there is none, with mode 0700."""
    found = own_folder(parent, name)
    if found is None:
        try:
            (parent / name).mkdir(0o700)
            found = parent / name
        except FileExistsError:  # somebody else's, a link, a file; or another process of ours was faster
            found = own_folder(parent, name) or Path(tempfile.mkdtemp(prefix=f"{name}-", dir=parent))
    os.chmod(found, 0o700)
    return found


def is_own(path: Path) -> bool:
    """Whether there is a folder, no link to one, that belongs to this user."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()


def is_open(parent: Path) -> bool:
    """Whether every user may replace what others have in that folder: everybody writes it, without the sticky bit."""
    mode = parent.stat().st_mode
    return bool(mode & stat.S_IWOTH) and not mode & stat.S_ISVTX


def start_module(module: str, argument: dict[str, Any], name: str, **how: Any) -> subprocess.Popen[bytes]:
    """Start a module of runner as a program whose argument nobody else can read.

    Args:
        argument: goes over standard input; `argument_of` is the other end.
        name: shown to whoever lists processes.
        how: of `subprocess.Popen`.
    """
    words = [sys.executable, "-m", module, BY_STDIN, name]
    process = subprocess.Popen(words, stdin=subprocess.PIPE, **how)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError), process.stdin as pipe:  # one that died at once is seen by its exit
        pipe.write(json.dumps(argument).encode())
    return process


def argument_of(argv: list[str]) -> dict[str, Any]:
    """What a program was started with, by `start_module` or (on a cluster) by the boot text."""
    return dict(json.loads(sys.stdin.buffer.read() if argv[0] == BY_STDIN else argv[0]))
