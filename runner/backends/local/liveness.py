"""Whether the supervisor of a run lives, asked on any machine and in any container that shares the store.

A process id means something only in one table of processes: that of a boot of a kernel, and in it of a PID namespace,
which a container has of its own. A hostname tells neither: containers and machines share one, and it may change.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import struct
import sys
from pathlib import Path

import psutil

from runner.record.entries import SupervisorBegan

#: `struct flock` of Linux on 64 bits, and what is asked with it: who keeps others from sharing a lock of all of a file.
_FLOCK = "hhqqi4x"
#: Locks are given up when any descriptor of the file is closed: here they are kept open.
_held: dict[str, int] = {}


def identity(lock: Path | None = None) -> SupervisorBegan:
    """What tells this process from any other, on any machine, at any time.

    Args:
        lock: a file that is locked until this process ends, or `release` is called, so that it is known elsewhere that
            it lives; None: there can be none.
    """
    held = lock is not None and _hold(lock)
    pid, started, here = os.getpid(), psutil.Process().create_time(), _here()
    return SupervisorBegan(here["host"], pid, started, here["machine"], here["boot"], here["space"], held)


def release(lock: Path | None) -> None:
    """Give up the lock of a run that has ended, in a process that goes on."""
    file = None if lock is None else _held.pop(os.fspath(lock), None)
    if file is not None:
        os.close(file)


def is_alive(who: SupervisorBegan, lock: Path | None = None) -> bool | None:
    """Whether the process with that identity lives; None if that cannot be known here.

    Args:
        lock: the file that it may hold.
    """
    here = _here()
    if _is_of_this_table(who, here):
        return _runs(who)
    same_boot = bool(here["boot"]) and who.boot == here["boot"]
    held = _is_held(lock) if lock is not None and who.held else None
    if held or (held is False and same_boot):  # over a network a lock that is not seen may be there
        return held
    other_machine = who.machine and here["machine"] and who.machine != here["machine"]
    return None if who.host != here["host"] or other_machine else False


def is_here(who: SupervisorBegan) -> bool:
    """Whether the process with that identity lives where its id means it."""
    return _is_of_this_table(who, _here()) and _runs(who)


def _here() -> dict[str, str]:
    """The machine, its boot and the PID namespace; what is not known is empty."""
    return {
        "host": os.uname().nodename,
        "machine": _machine(),
        "boot": _read("/proc/sys/kernel/random/boot_id"),
        "space": _space(),
    }


def _machine() -> str:
    """What an installation has of its own for good; only its hash leaves the machine."""
    found = _read("/etc/machine-id")
    return hashlib.sha256(f"lake-runner {found}".encode()).hexdigest()[:16] if found else ""


def _read(path: str) -> str:
    with contextlib.suppress(OSError, UnicodeError):
        return Path(path).read_text().strip()[:100]
    return ""


def _space() -> str:
    with contextlib.suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _is_of_this_table(who: SupervisorBegan, here: dict[str, str]) -> bool:
    """By the host's name where the system, or an older runner, tells no more."""
    names = ("boot", "space") if here["boot"] and who.boot else ("host",)
    return all(getattr(who, name) == here[name] for name in names)


def _runs(who: SupervisorBegan) -> bool:
    try:
        process = psutil.Process(who.pid)
        same = abs(process.create_time() - who.started) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _hold(lock: Path) -> bool:
    """Lock a file for this process alone: children do not inherit such a lock. Returns whether that was possible."""
    if sys.platform != "linux":
        return False
    path = os.fspath(lock)
    if path in _held:
        return True
    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError:
        return False
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # the file system has none, or a supervisor before this one still lives
        os.close(file)
        return False
    _held[path] = file
    return True


def _is_held(lock: Path) -> bool | None:
    """Whether some process has locked the file for itself alone; None if that cannot be known.

    A lock that is shared is none of a supervisor's: whoever may only read the file can have one.
    """
    if os.fspath(lock) in _held:
        return True
    try:
        file = os.open(lock, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
        return struct.unpack(_FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, asked))[0] != fcntl.F_UNLCK
    except OSError:
        return None
    finally:
        os.close(file)
