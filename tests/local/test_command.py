"""A command as a process: Ctrl-C at any moment, streams that are closed, readers that leave, exit codes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runner.client import lookup
from tests import ROOT
from tests.unit.cli.kit import write_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in the current folder, whose runs start nothing."""
    monkeypatch.chdir(write_project(tmp_path / "project").resolve())
    return tmp_path / "project"


def command(*words: str, before: str = "", **options: object) -> subprocess.CompletedProcess[str]:
    """A real process of the command line."""
    code = (
        f"import sys\n{before}\nfrom runner.cli.command import main\nsys.argv[1:] = {list(words)!r}\nsys.exit(main())"
    )
    given = {"capture_output": True, "text": True, "check": False, "timeout": 120, **options}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONUNBUFFERED", None)  # few users have it, and it changes when a write is refused
    return subprocess.run([sys.executable, "-c", code], env=environment, **given)  # type: ignore[call-overload,no-any-return]


#: Presses Ctrl-C as soon as a module is looked for.
PRESS = """
import os, signal
class Press:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            sys.meta_path.remove(self)
            try:
                os.kill(os.getpid(), signal.SIGINT)
            except KeyboardInterrupt:
                {then}
sys.meta_path.insert(0, Press())
"""


@pytest.mark.parametrize(
    "module",
    [
        "runner.cli.commands",
        "typer",
        "typer._adapters",
        "runner.cli.actions",
        "runner.plan.facts",
    ],
)
@pytest.mark.parametrize("then", ["raise", "raise ImportError(name)", "pass"])
def test_ctrl_c_before_anything_is_there(project: Path, module: str, then: str) -> None:
    """Exit code 130 and a word that nothing was started, also where an import makes something else of it."""
    done = command("submit", "tiny", before=PRESS.format(module=module, then=then))
    assert (done.returncode, done.stderr) == (130, "interrupted: nothing was started\n")
    assert not (project / ".runner").exists()


@pytest.mark.parametrize("module", ["runner.cli.command", "runner.process.interrupts", "runner.process.streams"])
def test_ctrl_c_before_anything_can_say_so(project: Path, tmp_path: Path, module: str) -> None:
    """From the first line of runner's own on there is an exit code of 130, and no traceback."""
    (tmp_path / "sitecustomize.py").write_text(f"import sys\n{PRESS.format(module=module, then='raise')}")
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-m", "runner", "submit", "tiny"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (130, "")
    assert not (project / ".runner").exists()


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_empty_ones(closed: str) -> None:
    """The run is made, the exit code is its own, and no file takes the place of a stream."""
    shell = f"exec {sys.executable} -m runner submit tiny {closed}"
    done = subprocess.run(["bash", "-c", shell], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=120)
    assert done.returncode == 0
    (run,) = lookup.runs()
    assert run.status == "succeeded"


@pytest.mark.parametrize("words", [["submit", "tiny"], ["ps"], ["--help"]])
def test_a_reader_that_leaves_is_no_error(words: list[str]) -> None:
    """No traceback; the exit code is that of any program whose reader has left, and a run goes on without it."""
    reading, writing = os.pipe()
    os.close(reading)
    done = command(*words, capture_output=False, stdout=writing, stderr=subprocess.PIPE)
    os.close(writing)
    assert done.returncode == 141
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("words", [["ps"], ["ps", "-o", "json"], ["--help"], ["submit", "tiny"]])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_an_error_of_its_own(words: list[str], unbuffered: str) -> None:
    """The disk that it leads to is full: that is said, once, and is no bug of runner; nothing is started."""
    with open("/dev/full", "w") as full:
        before = f"import os; os.environ['PYTHONUNBUFFERED'] = {unbuffered!r}"
        done = command(*words, before=before, capture_output=False, stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr.count("error: standard output cannot be written: No space left on device") == 1
    assert "Traceback" not in done.stderr
    assert lookup.runs() == []


def test_a_folder_that_is_gone_is_no_bug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever looks for the project from there says so."""
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    for words in (["ps"], ["submit", "tiny"], ["init", "x"]):
        done = command(*words)
        assert (done.returncode, done.stderr.splitlines()[0]) == (2, "error: the current folder is gone")
    monkeypatch.chdir(tmp_path)


ENDS = """
import os, sys
from runner import Job, Prep

class Stop(BaseException): ...

def fn(batch, config):
    {body}

job = Job("ends", cluster="fake", stages=[Prep("p", fn=fn, source="text", sink="out", batch_format="rows")])
"""


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ("sys.exit(0)", 1, "the function called sys.exit(0)"),
        ("sys.exit()", 1, "the function called sys.exit(None)"),
        ("sys.exit(7)", 1, "the function called sys.exit(7)"),
        ("raise KeyboardInterrupt", 1, "KeyboardInterrupt (jobs/ends.py:8 in fn)"),
        ("raise Stop('mine')", 1, "Stop: mine (jobs/ends.py:8 in fn)"),
        ("return 3", 2, "fn returned a int"),
        ("return batch", 0, ""),
    ],
)
def test_a_run_in_this_process_ends_with_the_code_of_the_run(project: Path, body: str, code: int, words: str) -> None:
    """Whatever the function does: --inline exits as a run elsewhere would, and the log says the same."""
    (project / "jobs/ends.py").write_text(ENDS.format(body=body))
    done = command("submit", "ends", "--inline")
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    (run,) = lookup.runs()
    assert run.status == ("succeeded" if code == 0 else "failed")
    if code == 1:
        assert run.error is not None
        assert run.error["class"] == "UserCodeError"
        assert words in run.error["message"]


def test_a_debugger_stops_where_the_users_code_raised(project: Path) -> None:
    """`python -m pdb -m runner submit ... --inline` shows the variables of the failing function."""
    (project / "jobs/ends.py").write_text(ENDS.format(body="mine = 'TWO'; raise ValueError(mine)"))
    words = [sys.executable, "-m", "pdb", "-c", "continue", "-m", "runner", "submit", "ends", "--inline"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }  # or prompts are not where they stood
    done = subprocess.run(words, input="p mine\nq\n", capture_output=True, text=True, check=False, env=environment)
    assert "(Pdb) 'TWO'" in done.stdout, done.stdout
