"""What a run keeps from other users of its machine."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest

from runner.process import private
from runner.process.package import PACKAGE
from runner.worker import processes


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A folder where everybody may write, as /tmp is."""
    folder = tmp_path / "t"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


def is_private(folder: Path) -> bool:
    found = folder.lstat()
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and stat.S_IMODE(found.st_mode) == 0o700


def test_a_folder_is_made_once(shared: Path) -> None:
    """The folder of a user has mode 0700, also one that had another, and is found again by its name."""
    (shared / "rr").mkdir(0o755)
    made = private.make_own_folder(shared, "rr")
    assert made == shared / "rr" == private.make_own_folder(shared, "rr") == private.own_folder(shared, "rr")
    assert is_private(made)


@pytest.mark.parametrize("first", ["link", "file", "dangling link"])
def test_what_was_there_first_is_not_used(shared: Path, tmp_path: Path, first: str) -> None:
    """A link or a file in its place is neither followed nor removed: the folder has another name, found by all."""
    if first == "file":
        (shared / "rr").write_text("x")
    else:
        target = tmp_path / "elsewhere"
        if first == "link":
            target.mkdir()
        (shared / "rr").symlink_to(target)
    assert private.own_folder(shared, "rr") is None
    made = private.make_own_folder(shared, "rr")
    assert made != shared / "rr"
    assert is_private(made)
    assert made == private.make_own_folder(shared, "rr") == private.own_folder(shared, "rr")
    assert os.path.lexists(shared / "rr")


@pytest.mark.skipif(os.getuid() != 0, reason="only root makes folders of other users")
def test_folders_of_others_are_not_used(shared: Path) -> None:
    """Another user's folder of that name is left alone, and so is one of a name that would be found later."""
    for name in ("rr", "rr-0"):
        (shared / name).mkdir(0o777)
        os.chown(shared / name, 65534, 65534)
    made = private.make_own_folder(shared, "rr")
    assert is_private(made)
    assert made == private.own_folder(shared, "rr")


def test_a_folder_where_everybody_may_rename_is_not_used(
    shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the sticky bit any user could put his own folder into the place of a run's, which lies at home then."""
    monkeypatch.setattr(tempfile, "tempdir", str(shared))
    monkeypatch.setattr(processes, "_LONGEST_TEMPORARY", 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert processes.scratch_root() == shared / f"rr-{os.getuid()}"
    shared.chmod(0o777)
    made = processes.scratch_folder("r261129-120000aa-job-xy")
    assert made == tmp_path / f".rr-{os.getuid()}" / "r261129-120000aa-xy"
    assert is_private(made.parent)


def test_a_run_finds_its_folder_beside_a_squatter(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a run's scratch folder is does not depend on who asks, or whether another user's name is in the way."""
    monkeypatch.setattr(processes, "scratch_place", lambda: (shared, "rr"))
    (shared / "rr").symlink_to("/")
    made = processes.scratch_folder("r261129-120000aa-job-xy")
    assert made == processes.scratch_path("r261129-120000aa-job-xy")
    assert made.name == "r261129-120000aa-xy"
    assert is_private(made.parent)
    assert not processes.remove_scratch("r261129-120000aa-job-xy")


def test_arguments_are_not_in_the_command_line(tmp_path: Path) -> None:
    """What a program of a run is started with cannot be read in the list of processes, and arrives whole."""
    (tmp_path / "shows.py").write_text(
        "import json, sys\nfrom runner.process.private import argument_of\n"
        "given = argument_of(sys.argv[1:])\nprint(json.dumps(given), flush=True)\nsys.stdin.read()\n"
        "import signal; signal.pause()\n"
    )
    given = {"options": {"secret": "hunter2"}, "long": "x" * 100_000}
    path = os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])
    shown = private.start_module(
        "shows", given, "run-1", stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    )
    with shown:
        assert shown.stdout is not None
        came = shown.stdout.readline()
        assert psutil.Process(shown.pid).cmdline()[1:] == ["-m", "shows", "-", "run-1"]
        shown.kill()
    assert json.loads(came) == given
