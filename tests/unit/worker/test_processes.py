"""Whatever a run has started is found and ended, whichever way it tried to get away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from runner.worker.processes import exit_words

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to an ancestor")

#: It stands for a supervisor; `away` starts a child of a child, with a session and an environment of its own.
SUPERVISOR = """
import os, subprocess, sys, time
import psutil
from runner.worker import processes

def away(command):
    started = subprocess.run(["setsid", "sh", "-c", command + " & echo $!"], env={"PATH": os.environ["PATH"]},
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, check=True)
    return psutil.Process(int(started.stdout))

def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)

if __name__ == "__main__":
    processes.adopt_orphans()
"""


def run(body: str, file: Path | None = None) -> str:
    """What the process printed, on either stream.

    Args:
        file: to be written for it, where its children import it.
    """
    words = ["-c", SUPERVISOR + body]
    if file is not None:
        file.write_text(SUPERVISOR + body)
        words = [str(file)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return (done.stdout + done.stderr).strip()


def test_orphans_without_the_mark_are_ended() -> None:
    """A process with an environment, a session and a dead parent of its own is still below the one that adopts it;
    one that ignores SIGTERM, or forks when it gets it, is ended too."""
    told = run("""
plain = away("exec sleep 300 >&-")
deaf = away("trap '' TERM; sleep 300 >&-")
forks = away("trap 'sleep 300 >&- & sleep 300 >&-' TERM; sleep 300 >&-")
until(lambda: all(p.ppid() == os.getpid() for p in (plain, deaf, forks)))
found = {p.pid for p in processes.find("no such run", below=True)}
print({plain.pid, deaf.pid, forks.pid} <= found, processes.end_all("no such run", 0.2, below=True),
      len(psutil.Process().children(recursive=True)))
""")
    assert told == "True 0 0"


def test_adopted_children_that_end_leave_no_zombie() -> None:
    """The kernel forgets an orphan that ended; the exit of a child that somebody waits for stays his."""
    told = run("""
orphan = away("exec sleep 300 >&-")
until(lambda: orphan.ppid() == os.getpid())
orphan.kill()
until(lambda: not orphan.is_running() or orphan.status() == psutil.STATUS_ZOMBIE)
mine = subprocess.Popen(["sh", "-c", "exit 7"])
until(lambda: psutil.Process(mine.pid).status() == psutil.STATUS_ZOMBIE)
until(lambda: processes.reap(besides=(mine.pid,)) or not psutil.pid_exists(orphan.pid))
print(mine.wait())
""")
    assert told == "7"


def test_orphans_of_workers_that_end_leave_no_zombie(tmp_path: Path) -> None:
    """The fork server that a worker comes from adopts what it leaves, and takes note of its end without a word."""
    told = run(
        """
import multiprocessing
from runner.worker import forkserver

def leave(pipe):
    pipe.send(away("exec sleep 300 >&-").pid)

if __name__ == "__main__":
    forkserver.start(())
    mine, theirs = multiprocessing.Pipe()
    worker = forkserver.context().Process(target=leave, args=(theirs,))
    worker.start()
    orphan = psutil.Process(mine.recv())
    worker.join()
    server = psutil.Process(multiprocessing.forkserver._forkserver._forkserver_pid)
    until(lambda: orphan.ppid() == server.pid)
    orphan.kill()
    until(lambda: not psutil.pid_exists(orphan.pid))
    print(worker.exitcode, server.is_running(), server.children())
""",
        tmp_path / "driver.py",
    )
    assert told == "0 True []"


def test_a_process_that_was_killed_is_told_with_what_usually_does_it() -> None:
    """The one signal that says nothing of why has its usual causes beside it, for ranks, workers and drivers alike."""
    assert exit_words(-9) == "signal 9 (SIGKILL): out of memory, or killed by hand"
    assert [exit_words(code) for code in (3, -15, -63)] == ["exit code 3", "signal 15 (SIGTERM)", "signal 63"]
