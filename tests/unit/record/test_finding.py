"""Which runs are meant: filters of `ps` and `runs`; and what a notebook shows of an error."""

from __future__ import annotations

import datetime
import time
from pathlib import Path

import pytest

import runner
from runner.backends.fake import FakeBackend
from runner.errors import InputError, UserCodeError
from runner.record.finding import moment
from runner.record.index import new_run_id
from runner.record.trust import user
from tests.unit.cli.kit import call, call_json, unstarted, write_project


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The small project of the command line's tests, as the current folder."""
    monkeypatch.chdir(tmp_path)
    return write_project(tmp_path)


def test_runs_are_chosen_by_job_state_and_user(project: Path) -> None:
    """By each, together, and on the command line as in Python."""
    (project / "jobs/other.py").write_text((project / "jobs/tiny.py").read_text().replace('Job("tiny"', 'Job("other"'))
    call("submit", "tiny", "-d")
    FakeBackend.outcomes["other"] = {"train": "ValueError: no"}
    call("submit", "other", "-d")
    living = unstarted()
    good, bad, _ = (run.id for run in runner.runs())
    for wanted, expected in (
        ({}, [good, bad, living.id]),
        ({"job": "other"}, [bad]),
        ({"state": "failed"}, [bad]),
        ({"state": "submitted"}, [living.id]),
        ({"job": "tiny", "state": "succeeded"}, [good]),
        ({"user": user()}, [good, bad, living.id]),
        ({"user": "nobody"}, []),
        ({"since": "1h"}, [good, bad, living.id]),
        ({"job": "tiny", "state": "failed"}, []),
    ):
        assert [run.id for run in runner.runs(**wanted)] == expected
        words = [word for name, value in wanted.items() for word in (f"--{name}", value)]
        assert [line["run"] for line in call_json("ps", *words)] == expected[::-1]


def test_since_is_a_span_or_a_date() -> None:
    """Spans count back from now; dates are local."""
    now = 1_800_000_000.0
    assert moment("2d", now) == moment(datetime.timedelta(days=2), now) == now - 172_800
    assert moment("1.5h", now) == now - 5400
    day = datetime.datetime(2026, 11, 20)
    assert moment("2026-11-20", now) == moment(day, now) == day.timestamp()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--state", "suceeded"], "did you mean 'succeeded'"),
        (["--since", "yesterday"], "90m, 12h, 2d, 1w"),
        (["--job", "tny"], "did you mean 'tiny'"),
    ],
)
def test_a_filter_that_cannot_be_meant_is_refused(words: list[str], said: str) -> None:
    """Instead of an empty list."""
    call("submit", "tiny", "-d")
    assert said in call("ps", *words, code=2).stderr


def test_older_runs_are_left_out(project: Path) -> None:
    """By the time in their names, without a look at their logs."""
    old = new_run_id("tiny", time.time() - 3 * 86400)
    (project / ".runner/index").mkdir(parents=True)
    (project / f".runner/index/{old}~tiny~succeeded~5").write_bytes(b"")
    assert [run.id for run in runner.runs()] == [old]
    assert runner.runs(since="2d") == []
    assert [run.id for run in runner.runs(since="4d")] == [old]


def test_a_notebook_shows_the_users_lines_and_the_words() -> None:
    """None of runner's frames: those of the user's call, and for the user's own failure the trace that the run kept."""
    with pytest.raises(InputError) as caught:
        runner.submit("tny")
    shown = "\n".join(caught.value._render_traceback_())
    assert 'runner.submit("tny")' in shown
    assert "runner/client/" not in shown
    assert "did you mean 'tiny'" in shown
    lines = UserCodeError("ValueError: x", trace='File "jobs/a.py", line 3, in fit\nValueError: x')._render_traceback_()
    assert lines[0] == 'File "jobs/a.py", line 3, in fit'
    assert lines[-1] == "UserCodeError: ValueError: x"
