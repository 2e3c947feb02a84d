"""Whether a supervisor lives is told by its table of processes and by its lock, not by a hostname that others share."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from runner.backends.local import liveness
from runner.backends.local.client import LocalClient
from runner.record import fold
from runner.record.entries import SupervisorBegan
from tests.unit.cli.kit import unstarted, write_project

HERE: dict[str, Any] = {"host": "box", "machine": "m1", "boot": "b1", "space": "s1"}
#: It stands for a supervisor, with a child that outlives it.
PROCESS = """
import json, subprocess, sys
from pathlib import Path
from runner.backends.local import liveness
who = liveness.identity(Path(sys.argv[1]))
child = subprocess.Popen(["sleep", "60"], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
print(json.dumps({**who.to_json(), "child": child.pid}), flush=True)
input()
"""


@pytest.fixture
def there(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Have this process be somewhere."""

    def move(**changed: str) -> None:
        monkeypatch.setattr(liveness, "_here", lambda: {**HERE, **changed})

    move()
    return move


@pytest.fixture
def started(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], SupervisorBegan, Path]]:
    """A process that holds a lock, its identity, and the file."""
    lock = tmp_path / "supervisor.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", PROCESS, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    told = json.loads(process.stdout.readline())
    yield process, SupervisorBegan.from_json(told), lock
    process.kill()
    process.wait()
    os.kill(told["child"], 9)


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def test_a_process_of_this_table_is_looked_up_whatever_the_host_is_called(
    started: tuple[subprocess.Popen[str], SupervisorBegan, Path],
) -> None:
    """A hostname that has changed during a run makes it neither lost nor unknown."""
    process, who, _ = started
    renamed = replace(who, host="as-it-was-called")
    assert liveness.is_alive(renamed) is True
    assert liveness.is_here(renamed)
    end(process)
    assert liveness.is_alive(renamed) is False
    assert liveness.is_alive(replace(who, started=who.started - 60)) is False


def test_a_container_beside_this_one_is_asked_by_its_lock(
    started: tuple[subprocess.Popen[str], SupervisorBegan, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process ids mean nothing here, though it may have this host's name; the kernel knows who holds the lock, and
    that no child of a process that is gone does.
    """
    process, who, lock = started
    assert who.held is True
    monkeypatch.setattr(liveness, "_space", lambda: "pid:[1]")
    for host in (who.host, "another-name"):
        assert liveness.is_alive(replace(who, host=host), lock) is True
    assert not liveness.is_here(who)
    end(process)
    for host in (who.host, "another-name"):
        assert liveness.is_alive(replace(who, host=host), lock) is False


@pytest.mark.parametrize(
    ("changed", "alive"),
    [
        ({"boot": "b2"}, False),  # restarted
        ({"boot": "b2", "machine": "m2"}, None),  # another machine of the same name
        ({"boot": "b2", "host": "other"}, None),
        ({"boot": "b2", "machine": ""}, False),  # as well as one can know
        ({"space": "s2"}, False),  # a container of that name that was started again, in a store without locks
        ({"space": "s2", "host": "other"}, None),
    ],
)
def test_what_is_known_elsewhere(there: Callable[..., None], changed: dict[str, str], alive: bool | None) -> None:
    """A machine that was restarted has ended its processes; of another machine nothing is known, by whatever name."""
    who = SupervisorBegan(pid=os.getpid(), started=0.0, **HERE)
    there(**changed)
    assert liveness.is_alive(who) is alive
    assert not liveness.is_here(who)


def test_a_lock_that_is_not_seen_says_nothing_over_a_network(there: Callable[..., None], tmp_path: Path) -> None:
    """File systems of several machines may keep locks to each: only one that is seen tells something."""
    (tmp_path / "lock").touch()
    there(boot="b2", machine="m2")
    assert liveness.is_alive(SupervisorBegan(pid=1, started=0.0, **HERE, held=True), tmp_path / "lock") is None


def test_what_older_runners_wrote_is_told_by_the_host(there: Callable[..., None]) -> None:
    """Without a boot the name of the host must do, as on systems that tell of none."""
    assert liveness.is_alive(SupervisorBegan("box", 2**30, 0.0)) is False
    assert liveness.is_alive(SupervisorBegan("other", 2**30, 0.0)) is None


def test_a_file_that_cannot_be_locked_is_no_hindrance(tmp_path: Path) -> None:
    """A link, a folder, a folder that is not there: nothing is held, and nothing is followed."""
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "folder").mkdir()
    for name in ("link", "folder", "nowhere/lock"):
        assert liveness.identity(tmp_path / name).held is False
        assert liveness._is_held(tmp_path / name) in (None, False)
    assert not (tmp_path / "target").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="locks are asked for on Linux")
def test_a_shared_lock_keeps_no_dead_run_alive(tmp_path: Path) -> None:
    """Another user, who may only read the file, can have a lock that is shared: no supervisor has such a one."""
    (lock := tmp_path / "lock").touch(0o444)
    words = "import fcntl, sys; f = open(sys.argv[1]); fcntl.lockf(f, fcntl.LOCK_SH); print(flush=True); input()"
    reader = [sys.executable, "-c", words, str(lock)]
    with subprocess.Popen(reader, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert liveness._is_held(lock) is False
        assert process.stdin is not None
        process.stdin.close()


def test_a_lock_is_given_up_with_its_run(tmp_path: Path) -> None:
    """A process that runs one after the other keeps none of their files open."""
    before = len(os.listdir("/proc/self/fd"))
    lock = tmp_path / "lock"
    assert liveness.identity(lock).held is True
    assert liveness._is_held(lock) is True
    liveness.release(lock)
    assert liveness._is_held(lock) is False
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_run_of_another_container_is_not_lost(
    started: tuple[subprocess.Popen[str], SupervisorBegan, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client goes by the lock in the run's folder, and by the log what process it is of."""
    monkeypatch.chdir(write_project(tmp_path / "project"))
    process, who, lock = started
    run = unstarted()
    held = run.bundle.held()
    assert held is not None
    os.link(lock, held)
    run.bundle.log.append(who)
    monkeypatch.setattr(liveness, "_space", lambda: "pid:[1]")
    outside, view = LocalClient(run.bundle), fold(run.bundle.log.read())
    assert not outside.is_lost(view)
    end(process)
    assert outside.is_lost(view)
