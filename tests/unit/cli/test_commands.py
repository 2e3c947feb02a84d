from __future__ import annotations

import json
from pathlib import Path

import pytest

from runner.backends.fake import FakeBackend
from runner.client.run import Run
from runner.data.versions import VersionMade
from runner.errors import DataError, WorkerLost
from runner.plan.project import find_project
from runner.record.entries import (
    AttemptBegan,
    CancelAsked,
    CheckpointPublished,
    Ended,
    StageDone,
    StageFailed,
    StageResult,
    StageStarted,
)
from runner.record.failures import Failure
from runner.record.finding import find_run
from runner.views import units
from runner.worker import processes
from tests.unit.cli.kit import call, call_json, lost, unstarted, write_lines, write_project, write_steps
from tests.unit.record.index_kit import read_index


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in a folder of its own, which is the current one; 80 columns."""
    monkeypatch.chdir(write_project(tmp_path / "project").resolve())
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("RUNNER_STORE", raising=False)
    return tmp_path / "project"


def last() -> Run:
    store = find_project().store()
    return Run(store, find_run(store, "@last"))


# -- submit ----------------------------------------------------------------------------------------------------------


def test_submit_shows_the_plan_each_stage_and_a_summary() -> None:
    """Attached without a terminal, a run is told in plain lines, with its results and the next commands."""
    out = call("submit", "tiny").stdout
    run = last().id
    assert out.index("plan tiny on fake, store .runner") < out.index(f"run {run} started") < out.index("tokens: done")
    assert "train: done" in out
    assert f"{run} succeeded in" in out
    assert f"bundle    .runner/{run}" in out
    assert f"runner logs {run}" in out
    assert "\x1b" not in out


def test_a_dry_run_shows_the_plan_and_starts_nothing() -> None:
    """The plan names stages, workers and data; the store stays empty."""
    out = call("submit", "jobs/tiny.py", "--dry-run").stdout
    assert "text: 2 rows, 32 B" in out
    assert "2 ranks, gpu" in out
    plan = call_json("submit", "tiny", "--dry-run", "--set", "train.workers=4")
    assert [(s["name"], s["workers"]) for s in plan["stages"]] == [("tokens", 1), ("train", 4)]
    assert read_index(find_project().store()) == []


def test_submit_with_json_prints_one_document_and_tells_the_rest_on_standard_error() -> None:
    """Standard output can be piped into a JSON reader, and whoever waits still sees progress."""
    result = call("submit", "tiny", "-o", "json")
    document = json.loads(result.stdout)
    assert (document["state"], document["job"], document["run"]) == ("succeeded", "tiny", last().id)
    assert [stage["state"] for stage in document["stages"]] == ["done", "done"]
    assert "train: done" in result.stderr


def test_a_plan_says_where_one_machine_has_very_many_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slip in the number of ranks is seen before it is started; a few on each core are nothing to speak of."""
    monkeypatch.setattr(processes, "cores", lambda: 2)
    dry = ("submit", "tiny", "--cluster", "local", "--dry-run", "--set")
    assert "train: 17 ranks, each a process, share the 2 cores" in call(*dry, "train.workers=17").stdout
    assert "share the" not in call(*dry, "train.workers=16").stdout


def test_detached_submit_prints_the_run_and_the_next_commands() -> None:
    """With --detach the id and what to type next come back at once."""
    out = call("submit", "tiny", "--detach").stdout
    for words in ("logs {} -f", "status {}", "cancel {}"):
        assert f"runner {words.format(last().id)}" in out
    assert call_json("submit", "tiny", "-d")["run"] in {line.run_id for line in read_index(find_project().store())}


def test_a_failed_run_exits_1_with_the_error_and_what_to_type() -> None:
    """The message names the stage; logs and resume are offered with the run's id."""
    FakeBackend.outcomes["tiny"] = {"train": "ValueError: loss is [bold]nan[/bold]"}
    result = call("submit", "tiny", code=1)
    assert "failed in stage train: ValueError: loss is [bold]nan[/bold]" in result.stderr
    assert f"runner logs {last().id} --stage train" in result.stderr
    assert f"runner resume {last().id}" in result.stderr
    assert call_json("submit", "tiny", code=1)["error"]["stage"] == "train"


def test_a_driver_that_dies_without_a_word_is_a_failure() -> None:
    """There is no traceback then; the words say how the driver ended."""
    FakeBackend.outcomes["tiny"] = {"tokens": None}
    assert "signal 9 (SIGKILL)" in call("submit", "tiny", code=1).stderr


def test_the_traceback_of_the_user_comes_first_and_names_project_files() -> None:
    """Where the code lay while it ran does not matter; the file of the project does."""
    run = unstarted()
    trace = (
        f'Traceback (most recent call last):\n  File "/tmp/runner-7/{run.id}/code/jobs/tiny.py", line 3\nValueError: x'
    )
    error = Failure("UserCodeError", "ValueError: x (jobs/tiny.py:3)", trace, rank=1)
    run.bundle.log.append(AttemptBegan(leg=1, attempt=1))
    run.bundle.log.append(StageStarted(stage="train", attempt=1))
    run.bundle.log.append(StageFailed(stage="train", attempt=1, error=error))
    run.bundle.log.append(Ended(state="failed", error=None))
    out = call("status").stdout
    assert 'File "jobs/tiny.py", line 3' in out
    assert out.index("ValueError: x\n") < out.index("failed in stage train, rank 1: ValueError: x (jobs/tiny.py:3)")
    assert f"runner logs {run.id} --stage train --rank 1" in out


def test_a_stage_that_finds_bad_input_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bad data that only a stage can see: exit code 2 all the same, and the words that help."""
    error = Failure.of(DataError("corrupt", where="lake/a", todo="mend it"))

    def fail(self: FakeBackend, stage: str, attempt: int, message: str | None) -> None:
        self._bundle.log.append(StageFailed(stage=stage, attempt=attempt, error=error))

    monkeypatch.setattr(FakeBackend, "_fail", fail)
    FakeBackend.outcomes["tiny"] = {"tokens": "bad"}
    assert "to do:   mend it" in call("submit", "tiny", code=2).stderr


def test_resume_goes_on_with_what_is_not_done() -> None:
    """The done stage is not begun again, and the run ends well this time."""
    FakeBackend.outcomes["tiny"] = {"train": "ValueError: no"}
    call("submit", "tiny", code=1)
    FakeBackend.outcomes.clear()
    FakeBackend.started.clear()
    out = call("resume").stdout
    assert f"{last().id} goes on; Ctrl-C cancels it" in out
    assert "train: done" in out
    assert "tokens: " not in out
    assert f"{last().id} succeeded" in out
    assert FakeBackend.started == [(last().id, 1, 2)]
    assert "the run has succeeded" in call("resume", code=2).stderr


INLINE = """
from dataclasses import dataclass
from runner import Job, Prep

@dataclass(frozen=True)
class Config:
    bad: str = ""

def upper(batch, config):
    print("in your process")
    rows = [{"text": row["text"].upper()} for row in batch]
    if any(row["text"] == config.bad for row in rows):
        raise ValueError(f"{config.bad} is not liked")
    return rows

job = Job("shout", config=Config(), stages=[Prep("upper", fn=upper, source="text", sink="loud", batch_format="rows")])
"""


def test_inline_runs_in_this_process(project: Path) -> None:
    """What the job prints comes out as it is; with JSON it does not mix with the document."""
    (project / "jobs/shout.py").write_text(INLINE)
    out = call("submit", "shout", "--inline").stdout
    assert "\nin your process\n" in out
    assert "2 in = 2 processed + 0 filtered + 0 quarantined" in out
    result = call("submit", "shout", "--inline", "-o", "json", "--set", "bad=three")
    assert json.loads(result.stdout)["state"] == "succeeded"
    assert "in your process" in result.stderr


def test_inline_shows_the_users_exception_as_theirs(project: Path) -> None:
    """Their frames only, then the stage; exit code 1."""
    (project / "jobs/shout.py").write_text(INLINE)
    shown = call("submit", "shout", "--inline", "--set", "bad=TWO", code=1).stderr
    assert shown.startswith("Traceback (most recent call last):\n")
    assert 'jobs/shout.py", line 13, in upper' in shown
    assert "runner/worker" not in shown
    assert "failed in stage upper: " in shown
    assert "ValueError: TWO is not liked" in shown.split("failed in stage")[0]


# -- looking ---------------------------------------------------------------------------------------------------------


def test_ps_lists_the_newest_first_and_always_those_that_live() -> None:
    """-n bounds only the runs that have ended."""
    alive = unstarted()
    for _ in range(3):
        call("submit", "tiny", "-d")
    rows = call_json("ps", "-n", "1")
    assert len(rows) == 2
    assert alive.id in {row["run"] for row in rows}
    assert len(call_json("ps", "--all")) == 4
    out = call("ps").stdout.splitlines()
    assert out[0].split() == ["run", "job", "state", "started", "time"]
    assert [line.split()[0] for line in out[1:]] == sorted([row["run"] for row in call_json("ps")], reverse=True)
    assert all(len(line) <= 80 for line in out)


def test_ps_without_those_that_have_ended() -> None:
    """-n 0 leaves the runs that go on; where there are none it does not say that the store has no runs."""
    call("submit", "tiny", "-d")
    assert call_json("ps", "-n", "0") == []
    assert "no run is going in " in call("ps", "-n", "0").stdout
    assert "no such run is going in " in call("ps", "-n", "0", "--job", "tiny").stdout
    alive = unstarted()
    assert [row["run"] for row in call_json("ps", "-n", "0")] == [alive.id]


def test_an_empty_store_has_no_runs_and_no_data() -> None:
    """Nothing to show is no error, and still JSON where JSON was asked for."""
    assert "no runs in" in call("ps").stdout
    assert call_json("ps") == []
    assert "no datasets in" in call("data", "ls").stdout
    assert call_json("data", "ls") == []


@pytest.mark.parametrize(
    "words",
    [
        ["ps"],
        ["status"],
        ["logs"],
        ["logs", "-f"],
        ["metrics"],
        ["why"],
        ["data", "ls"],
        ["checkpoints"],
        ["gc"],
        ["ps", "--state", "lost"],
    ],
)
def test_looking_at_a_lost_run_changes_nothing(words: list[str]) -> None:
    """Wherever the user looks it is said to be lost, with what goes on with it and what ends it; every file and process
    stays as it is.
    """
    run = lost()
    scratch = processes.scratch_folder(run.id)
    before = run.bundle.root.find()
    try:
        said = call(*words)
        assert run.bundle.root.find() == before
        assert scratch.is_dir()
    finally:
        processes.remove_scratch(run.id)
    if words[0] not in ("data", "checkpoints", "gc"):
        assert f"{run.id} is lost: its supervisor is gone" in said.stderr
        assert f"runner resume {run.id}" in said.stderr
        assert f"runner cancel {run.id}" in said.stderr
    assert run.status == "lost"


def test_a_lost_run_is_shown_as_it_was_when_it_was_last_heard_of() -> None:
    """Its state, time and stage do not go on, and its error is the one with which it would end."""
    run = lost()
    heard = run.view().heard
    (row,) = call_json("ps")
    assert (row["state"], row["stage"]) == ("lost", None)
    document = call_json("status")
    assert (document["state"], document["stages"][0]["state"]) == ("lost", "lost")
    assert document["error"]["class"] == "WorkerLost"
    assert document["ended"] == units.iso(heard)
    assert document["seconds"] == row["seconds"] < 60
    assert "lost: the supervisor of the run is gone" in call("status").stdout
    with pytest.raises(WorkerLost, match="the supervisor of the run is gone"):
        run.wait()


@pytest.mark.parametrize(
    ("words", "state"), [(["cancel", "@last"], "failed"), (["resume", "-d"], "succeeded"), (["gc", "--yes"], "failed")]
)
def test_cancel_resume_and_gc_end_a_lost_run(words: list[str], state: str) -> None:
    """What it left is removed, and its log and its line in the index say that it is over."""
    run = lost()
    scratch = processes.scratch_folder(run.id)
    said = call(*words)
    assert (f"run {run.id} goes on" in said.stdout) is (words[0] == "resume")
    assert not scratch.exists()
    assert run.status == state
    (line,) = read_index(run.bundle.root)
    assert line.state == state
    assert "its processes are gone" in said.stdout if words[0] == "gc" else f"{run.id} was lost" in said.stderr


def test_a_lost_run_that_was_to_be_cancelled_is_cancelled() -> None:
    """Its supervisor went before it could: whoever ends it says so."""
    run = lost()
    run.bundle.log.append(CancelAsked(by="ann"))
    assert run.status == "lost"
    assert run.cancel()
    assert run.status == "cancelled"


def test_status_shows_a_running_stage_and_an_ended_run() -> None:
    """The state of each stage, and commands that fit the state of the run."""
    run = unstarted()
    run.bundle.log.append(AttemptBegan(leg=0, attempt=1))
    run.bundle.log.append(StageStarted(stage="tokens", attempt=1))
    out = call("status", run.id[:12]).stdout
    assert "running for" in out
    assert f"runner cancel {run.id}" in out
    document = call_json("status")
    assert (document["state"], document["stages"][0]["state"], document["cluster"]) == ("running", "running", "fake")


def test_status_tells_how_far_a_running_stage_is() -> None:
    """From its latest metrics, as an attached terminal would show it."""
    run = unstarted()
    run.bundle.log.append(AttemptBegan(leg=1, attempt=1))
    run.bundle.log.append(StageStarted(stage="train", attempt=1))
    assert call_json("status")["stages"][1]["progress"] == {}
    write_steps(run.bundle, 40)
    assert "40/400 steps · loss 0.075" in call("status").stdout
    assert call_json("status")["stages"][1]["progress"]["step"] == 40


def test_status_tells_counts_results_and_checkpoints() -> None:
    """What a stage recorded is shown as a person reads it, with places relative to the current folder."""
    run = unstarted()
    result = {
        "rows_in": 1_250_000, "processed": 1_200_000, "filtered": 49_999, "quarantined": 1, "bytes_in": 34_500_000,
        "rows_out": {"": 1_200_000}, "outputs": {"tokens": "a" * 32}, "seconds": 2.0, "tasks": 4, "tasks_reused": 1,
        "places": {"tokens": "datasets/tokens/_versions/r-1"},
    }  # fmt: skip
    log = run.bundle.log
    log.append(AttemptBegan(leg=0, attempt=1))
    log.append(StageStarted(stage="tokens", attempt=1))
    log.append(StageDone(stage="tokens", attempt=1, result=StageResult.from_json(result)))
    log.append(StageStarted(stage="train", attempt=1))
    for step, best in ((10, True), (20, False)):
        key = run.bundle.checkpoint("train", step, 1)
        log.append(CheckpointPublished("train", step, key, {}, best, sha256=""))
        run.bundle.store.put(f"{key}/manifest.json", b'{"files": {}}')
    run.bundle.store.put("artefacts/train/sample.txt", b"hello")
    out = call("status").stdout
    assert "1.25 M in = 1.20 M processed + 49,999 filtered + 1 quarantined" in out
    assert "17.2 MB/s" in out
    assert "1 of 4 tasks, which were done before" in out
    assert ".runner/datasets/tokens/_versions/r-1: 1.20 M rows" in out
    assert f".runner/{run.id}/checkpoints/train/000000010-1 (best, step 10)" in out
    assert f".runner/{run.id}/checkpoints/train/000000020-1 (last, step 20)" in out
    assert f".runner/{run.id}/artefacts/train/sample.txt" in out


def test_logs_are_the_lines_as_they_were_printed() -> None:
    """Lines carry their writer; --rank gives those of one rank bare; nothing of them is markup."""
    run = unstarted()
    write_lines(run.bundle, "train", "logs", "rank0", "[red]hello[/]", "world")
    write_lines(run.bundle, "train", "logs", "rank1", "other")
    assert call("logs").stdout == "train/rank0 | [red]hello[/]\ntrain/rank0 | world\ntrain/rank1 | other\n"
    assert call("logs", "--rank", "1").stdout == "other\n"
    assert call_json("logs", "--stage", "train", "--rank", "1") == [
        {"at": None, "from": "train/rank1", "line": "other"}
    ]
    silent = call("logs", "--stage", "tokens")
    assert (silent.stdout, silent.stderr) == ("", "nothing was printed\n")


def test_logs_of_a_while_and_the_last_ones() -> None:
    """--since and --tail leave lines out, --timestamps says when each was printed, as far as that is known."""
    run = unstarted()
    write_lines(run.bundle, "train", "logs", "rank0", "one", "two", "three")
    write_lines(run.bundle, "train", "logs", "rank1", "of unknown time")
    times = run.bundle.stage_files.segments("train", 1, "times", "rank0")
    run.bundle.store.create(f"{times}/{0:015d}", json.dumps([[0, 100.0], [4, 200.5]]).encode())
    assert call("logs", "--rank", "0", "--tail", "1").stdout == "three\n"
    assert call("logs", "--rank", "0", "--since", "1970-01-01T00:02:00Z", "-t").stdout == (
        "1970-01-01T00:03:20.500Z two\n1970-01-01T00:03:20.500Z three\n"
    )
    assert call("logs", "-t").stdout.splitlines()[0] == "-                        train/rank1 | of unknown time"
    assert call("logs", "--since", "10m").stdout == ""
    assert "allowed: a span such as 90s" in call("logs", "--since", "soon", code=2).stderr


def test_a_rank_that_there_is_not_is_no_silence() -> None:
    """Wrong input, with what there is; a rank of before a resume with fewer is there."""
    run = unstarted()
    write_lines(run.bundle, "train", "logs", "rank7", "I was")
    assert "allowed: 0 to 1" in call("logs", "--rank", "2", code=2).stderr
    assert "only trainings have them" in call("logs", "--stage", "tokens", "--rank", "0", code=2).stderr
    assert call("logs", "--rank", "7").stdout == "I was\n"
    assert call("logs", "--stage", "train", "--rank", "1").stderr == "nothing was printed\n"


def test_following_the_logs_ends_with_the_run() -> None:
    """-f returns when the run has ended, after its last line."""
    call("submit", "tiny", "-d")
    write_lines(last().bundle, "train", "logs", "rank0", "the end")
    assert call("logs", "-f").stdout == "train/rank0 | the end\n"


def test_metrics_are_shown_and_drawn(project: Path) -> None:
    """Extremes and a sample of the rows, the same rows as JSON, and a picture."""
    run = unstarted()
    assert f"no training metrics in {run.id}" in call("metrics").stdout
    write_steps(run.bundle, 40)
    out = call("metrics").stdout
    assert "stage train: 40 steps, 1,280 samples, median 32 samples/s, 25 % waiting for data" in " ".join(out.split())
    assert [row["step"] for row in call_json("metrics")["rows"]][:3] == [1, 2, 3]
    assert call("metrics", "--plot", "loss.png").stdout == "drew loss.png\n"
    assert (project / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_cancel_tells_whether_there_was_anything_to_cancel() -> None:
    """A run that has ended stays as it is."""
    call("submit", "tiny", "-d")
    assert call("cancel", "@last").stdout == f"{last().id} has ended already: succeeded\n"


def test_published_data_is_listed_with_its_versions() -> None:
    """`data ls` shows the newest version of each dataset, `data ls NAME` all of one."""
    from runner.data.catalog import Catalog

    catalog = Catalog(find_project().store())
    for number in (1, 2):
        folder, rows = f"_versions/r260101-00000{number}aa-tiny-aa-1", 1_500_000 * number
        catalog.publish_version("tokens", VersionMade(f"{number:032d}", folder, rows, bytes=10, files=1, stage="prep"))
    row = call("data", "ls").stdout.splitlines()[1].split()
    assert row[:5] == ["tokens", "3.00", "M", "10", "B"]
    assert row[-1] == "0" * 12
    assert [row["id"] for row in call_json("data", "ls", "tokens")] == [f"{2:032d}", f"{1:032d}"]
    assert len(call("data", "ls", "tokens").stdout.splitlines()) == 3


def test_commands_carry_the_store_that_was_given(tmp_path: Path) -> None:
    """What is suggested finds the run from the folder where it is typed."""
    store = str(tmp_path / "other store")
    out = call("submit", "tiny", "-d", "--store", store).stdout
    assert f"--store '{store}'" in out
    assert call_json("ps", "--store", store)[0]["job"] == "tiny"
    assert call_json("ps") == []


# -- the whole program -----------------------------------------------------------------------------------------------


def test_version_and_help_have_what_one_looks_for() -> None:
    """Every command has an example in its help."""
    assert call("--version").stdout.startswith("runner 0.")
    commands = ["submit", "ps", "status", "logs", "metrics", "cancel", "resume", "init"]
    listed = call("--help").stdout
    for name in commands:
        assert f"  {name} " in listed
        assert f"runner {name}" in call(name, "--help").stdout.split("Examples:")[1]
    assert "..." not in listed.split("Commands:")[1]


def test_a_bug_of_ours_is_told_with_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should take it for a mistake of their own."""

    def broken(*_: object) -> None:
        raise KeyError("oops")

    monkeypatch.setattr("runner.cli.queries.ps", broken)
    result = call("ps", code=1)
    assert "Traceback" in result.stderr
    assert "bug of runner" in result.stderr
    assert result.stdout == ""
