"""What is said besides results: where it goes, how much of it, and what of it reaches a terminal."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.errors import InputError
from runner.untrusted import logger
from tests.unit.cli.kit import call, write_project

#: What a module of runner says, at each level, and foreign text among it.
SAY = """
import logging
log = logging.getLogger("runner.store.retry")
log.debug("in detail")
log.info("on the way")
log.warning("trying again: %s", "s3://lake: \\x1b[2J")
"""
CONFIGURED = f"from runner.untrusted import logger\nlogger.configure()\n{SAY}"


@pytest.fixture(autouse=True)
def _unchanged() -> Iterator[None]:
    """Other tests say as much as before."""
    ours = logging.getLogger("runner")
    before = ours.level
    yield
    ours.setLevel(before)


def stderr_of(code: str, **environment: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), **environment},
    )
    return done.stderr.splitlines()


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("", ["again"]),
        ("info", ["way", "again"]),
        ("DEBUG", ["det", "way", "again"]),
        ("error", []),
        ("loud", ["again"]),
    ],
)
def test_a_process_of_a_run_says_as_much_as_runner_log_lets_it(named: str, said: list[str]) -> None:
    """Warnings by default, and where the variable names no level: that ends no run."""
    lines = stderr_of(CONFIGURED, RUNNER_LOG=named)
    assert len(lines) == len(said)
    assert all(line.startswith("runner: ") and word in line for line, word in zip(lines, said, strict=True))


def test_a_warning_is_said_in_short_and_moves_no_cursor() -> None:
    """What a store or an API says may hold anything, and a terminal obeys none of it."""
    assert stderr_of(CONFIGURED) == [r"runner: trying again: s3://lake: \x1b[2J"]
    (line,) = stderr_of(CONFIGURED.replace('log.info("on', 'log.error("no'), RUNNER_LOG="error")
    assert line == "runner: no the way"
    assert " info runner.store.retry: on the way" in stderr_of(CONFIGURED, RUNNER_LOG="info")[0]


def test_importing_runner_configures_nothing() -> None:
    """A program's own set-up gets the records, in its own form; without one Python itself shows warnings."""
    code = "import logging, runner, runner.store.retry\nassert not logging.getLogger('runner').handlers\n"
    own = "logging.basicConfig(format='%(name)s|%(message)s', level=logging.INFO)\n"
    assert stderr_of(code + own + SAY)[0] == "runner.store.retry|on the way"
    assert [line.split(":")[0] for line in stderr_of(code + SAY)] == ["trying again"]


def test_the_users_own_logging_sees_nothing_twice() -> None:
    """A function in a process of a run may set up logging: what runner says is still there once."""
    own = "import logging\nlogging.basicConfig(level=logging.INFO)\nlogging.getLogger('mine').info('hello')\n"
    assert len(stderr_of(CONFIGURED + own + SAY)) == 3


@pytest.mark.parametrize(("verbose", "least"), [(0, "warning"), (1, "info"), (2, "debug"), (3, "debug")])
def test_the_command_says_more_where_it_is_asked_to(verbose: int, least: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `-v`, which counts more than the variable; one that names no level is wrong input."""
    monkeypatch.delenv("RUNNER_LOG", raising=False)
    assert logger.level(verbose) == least
    monkeypatch.setenv("RUNNER_LOG", "loud")
    if verbose:
        assert logger.level(verbose) == least
    else:
        with pytest.raises(InputError, match="debug, info, warning, error"):
            logger.level()


@pytest.mark.parametrize("words", [["-v", "ps"], ["ps", "-v"], ["ps", "--verbose", "-o", "json"], ["ps", "-vv"]])
def test_verbose_stands_anywhere(words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before a command's name or behind it; what the command starts on this machine says as much."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    monkeypatch.setenv("RUNNER_LOG", "")
    assert call(*words).exit_code == 0
    code = "import os; print(os.environ['RUNNER_LOG'])"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stdout.strip() == ("debug" if "-vv" in words else "info")


def test_a_level_that_there_is_not_is_wrong_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says which there are, before it does anything."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    monkeypatch.setenv("RUNNER_LOG", "loud")
    assert "debug, info, warning, error" in call("ps", code=2).stderr


@pytest.mark.parametrize("level", ["warning", "info", "debug"])
def test_what_ended_a_process_is_no_line_that_was_asked_for(level: str) -> None:
    """However much is shown, its last words are what they are otherwise."""
    printed = "\n".join([*stderr_of(CONFIGURED, RUNNER_LOG=level), "Fatal Python error: out of memory"])
    assert logger.undemanded(printed).splitlines() == [
        r"runner: trying again: s3://lake: \x1b[2J",
        "Fatal Python error: out of memory",
    ]
