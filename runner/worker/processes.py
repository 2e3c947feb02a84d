"""The processes of a run on this machine: marking, finding and ending them, and dying with one's parent.

They are found in two ways. Supervisor, driver and its fork servers adopt the orphans below them (Linux), so whatever a
run has started is their descendant, whichever environment, session or dead parent it has. And every process inherits an
environment variable that names the run, by which it is found when those are gone.
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
from collections.abc import Container
from pathlib import Path

import psutil

from runner.errors import InputError
from runner.process import private
from runner.untrusted.names import RUN_ID

MARK = "RUNNER_RUN"
#: In a run's temporary folder: its id, whole, and its supervisor's process id.
_NOTE, _SUPERVISOR = "run", "supervisor.pid"
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
#: How often processes are looked for that were started while others were being ended.
_ROUNDS = 5
#: Paths of sockets have at most 107 characters, and Ray's are about 65 longer than the run's scratch folder.
_LONGEST_TEMPORARY = 8


def scratch_place() -> tuple[Path, str]:
    """In which folder, and by which name, this user has the temporary data of runs. Short, because Ray's socket paths
    lie below it.
    """
    folder, name = Path(tempfile.gettempdir()), f"rr-{os.getuid()}"
    if len(str(folder)) > _LONGEST_TEMPORARY and os.access("/tmp", os.W_OK):
        folder = Path("/tmp")
    return (Path.home(), f".{name}") if private.is_open(folder) else (folder, name)


def scratch_root() -> Path:
    """Where the temporary data of this user's runs lies, or would."""
    parent, name = scratch_place()
    return private.own_folder(parent, name) or parent / name


def scratch_path(run_id: str) -> Path:
    """Where the temporary folder of one run is, or would be."""
    return scratch_root() / _short(run_id)


def scratch_folder(run_id: str) -> Path:
    """The temporary folder of one run, made if need be; it goes with the run.

    Raises:
        InputError: it is that of another run, whose id differs only in the job's name.
    """
    folder = private.make_own_folder(*scratch_place()) / _short(run_id)
    folder.mkdir(exist_ok=True)
    note = folder / _NOTE
    if not note.exists():
        note.write_text(run_id)
    if not _is_of(folder, run_id):
        raise InputError(
            f"{folder} is of the run {note.read_text()}",
            allowed="a run whose temporary folder is its own",
            todo="wait until that one has ended",
            where=run_id,
        )
    return folder


def _is_of(folder: Path, run_id: str) -> bool:
    """Whether a folder was made for this very run: what a store calls one may be made to fit another."""
    try:
        return (folder / _NOTE).read_text() in ("", run_id)  # empty: it is being written
    except FileNotFoundError:
        return True  # of an older runner, or there is none


def note_supervisor(run_id: str, pid: int) -> None:
    """Keep in the run's temporary folder, which only this user writes, which process is to hear of a cancel."""
    (scratch_folder(run_id) / _SUPERVISOR).write_text(str(pid))


def is_noted(run_id: str, pid: int) -> bool:
    """Whether that was noted: a log could name any process of this user's."""
    try:
        return (scratch_path(run_id) / _SUPERVISOR).read_text() == str(pid)
    except OSError:
        return False


def _short(run_id: str) -> str:
    """A run id without the job's name. Raises InputError if it is none: what lies at that path is removed."""
    words = RUN_ID(run_id).split("-")
    return "-".join([*words[:2], *words[2:][-1:]])


def find(run_id: str, *, below: bool = False) -> list[psutil.Process]:
    """The living processes of a run, this one excepted.

    Args:
        below: all descendants of this process are of the run, with its mark or without.
    """
    found = {}
    if below:
        found = {process.pid: process for process in psutil.Process().children(recursive=True) if _is_alive(process)}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            marked = process.pid != os.getpid() and process.environ().get(MARK) == run_id
            if marked and process.pid not in found and _is_alive(process):
                found[process.pid] = process
    return list(found.values())


def _is_alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.status() != psutil.STATUS_ZOMBIE
    return False


def end_all(run_id: str, grace_s: float, *, below: bool = False, from_inside: bool = False) -> int:
    """Ask every process of a run to end, then make them.

    Args:
        below: see `find`.
        grace_s: seconds between SIGTERM and SIGKILL. Python's resource tracker ignores SIGTERM and uses the time to
            unlink the semaphores and shared memory of those that died.
        from_inside: the caller is a process of the run itself and about to end: its own resource tracker ends with it.

    Returns:
        How many are left (0 unless the kernel holds one back).
    """
    left = _found(run_id, below, from_inside)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    left = psutil.wait_procs(left, timeout=grace_s)[1] if left else []
    for _ in range(_ROUNDS):  # a process may have forked while the list was made
        left = _found(run_id, below, from_inside)
        if not left:
            return 0
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.kill()
        psutil.wait_procs(left, timeout=2.0)
    return len(_found(run_id, below, from_inside))


def _found(run_id: str, below: bool, from_inside: bool) -> list[psutil.Process]:
    return [p for p in find(run_id, below=below) if not (from_inside and _is_tracker_of_this(p))]


def _is_tracker_of_this(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        command = " ".join(process.cmdline())
        return process.ppid() == os.getpid() and "multiprocessing.resource_tracker" in command
    return False


def remove_scratch(run_id: str) -> bool:
    """Remove a run's temporary folder. Returns whether anything of it is left."""
    folder = scratch_path(run_id)
    if not _is_of(folder, run_id):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    return folder.exists()


def adopt_orphans() -> None:
    """From now on a descendant whose parent dies becomes a child of this process (on Linux)."""
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def reap(besides: Container[int]) -> None:
    """Take note of adopted children that have ended, so that the kernel forgets them.

    Args:
        besides: children that somebody here waits for.
    """
    while hasattr(os, "waitid"):
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if ended is None or ended.si_pid in besides:
            return
        os.waitpid(ended.si_pid, 0)


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


def die_with_parent(parent: int, how: signal.Signals = signal.SIGTERM) -> None:
    """Have the kernel send `how` to this process when its parent dies (Linux); elsewhere a thread watches for it.

    Args:
        parent: the process id that the parent had when this process was started, to see a death in between.
    """
    if sys.platform == "linux":
        _prctl(_PR_SET_PDEATHSIG, int(how))
    else:
        threading.Thread(target=_watch_parent, args=(parent, how), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), how)


def _watch_parent(parent: int, how: signal.Signals) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(parent).wait()
    os.kill(os.getpid(), how)


def cores() -> int:
    """How many cores of this machine this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def exit_words(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        name = signal.Signals(-code).name
        return f"signal {-code} ({name})" + (": out of memory, or killed by hand" if name == "SIGKILL" else "")
    except ValueError:
        return f"signal {-code}"
