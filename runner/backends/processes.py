"""The processes of a run on this machine: marking, finding and ending them, and dying with one's parent.

Every process of a run inherits an environment variable that names the run, and that is how they are found: process
groups and sessions can be left, an inherited environment is not lost by forking, by `setsid` or by a dead parent.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

import psutil

MARK = "RUNNER_RUN"
_PR_SET_PDEATHSIG = 1
#: Paths of sockets have at most 107 characters, and Ray's are about 65 longer than the run's scratch folder.
_LONGEST_TEMPORARY = 8


def scratch_root() -> Path:
    """Where the temporary data of this user's runs lies. Short, because Ray's socket paths lie below it."""
    folder = Path(tempfile.gettempdir())
    if len(str(folder)) > _LONGEST_TEMPORARY and os.access("/tmp", os.W_OK):
        folder = Path("/tmp")
    return folder / f"rr-{os.getuid()}"


def scratch_path(run_id: str) -> Path:
    """Where the temporary folder of one run is, or would be. The job's name in the run id is left out: short, again."""
    words = run_id.split("-")
    return scratch_root() / "-".join([*words[:2], *words[2:][-1:]])


def scratch_folder(run_id: str) -> Path:
    """The temporary folder of one run, made if need be; it goes with the run."""
    folder = scratch_path(run_id)
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder.parent, 0o700)
    return folder


def find(run_id: str) -> list[psutil.Process]:
    """The living processes of a run, this one excepted."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            alive = process.status() != psutil.STATUS_ZOMBIE
            if alive and process.pid != os.getpid() and process.environ().get(MARK) == run_id:
                found.append(process)
    return found


def end_all(run_id: str, grace_s: float, *, from_inside: bool = False) -> int:
    """Ask every process of a run to end, then make them.

    Args:
        grace_s: seconds between SIGTERM and SIGKILL. Python's resource tracker ignores SIGTERM and uses the time to
            unlink the semaphores and shared memory of those that died.
        from_inside: the caller is a process of the run itself and about to end: its own resource tracker ends with it.

    Returns:
        How many are left (0 unless the kernel holds one back).
    """
    left = _found(run_id, from_inside)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    left = psutil.wait_procs(left, timeout=grace_s)[1] if left else []
    for _ in range(3):  # a process may have forked while the list was made
        left = _found(run_id, from_inside)
        if not left:
            return 0
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=2.0)
    return len(_found(run_id, from_inside))


def _found(run_id: str, from_inside: bool) -> list[psutil.Process]:
    return [p for p in find(run_id) if not (from_inside and _is_tracker_of_this(p))]


def _is_tracker_of_this(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return process.ppid() == os.getpid() and "multiprocessing.resource_tracker" in command
    return False


def remove_scratch(run_id: str) -> bool:
    """Remove a run's temporary folder. Returns whether anything of it is left."""
    folder = scratch_path(run_id)
    shutil.rmtree(folder, ignore_errors=True)
    return folder.exists()


def identity() -> dict[str, Any]:
    """What tells this process from any other, on any machine, at any time."""
    return {"host": os.uname().nodename, "pid": os.getpid(), "started": psutil.Process().create_time()}


def is_alive(who: dict[str, Any]) -> bool | None:
    """Whether the process with that identity lives; None if it is (or was) on another machine."""
    if who["host"] != os.uname().nodename:
        return None
    try:
        process = psutil.Process(who["pid"])
        same = abs(process.create_time() - who["started"]) < 1.0
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def die_with_parent(parent: int, how: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send `how` to this process when its parent dies (Linux); elsewhere a thread watches for it.

    Args:
        parent: the process id that the parent had when this process was started, to see a death in between.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(how), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    else:
        threading.Thread(target=_watch_parent, args=(parent, how), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), how)


def _watch_parent(parent: int, how: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os.kill(os.getpid(), how)


def exit_words(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
