"""What ``-o json`` prints can be read by any reader of JSON, and is the truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cli.console import Output, plain
from runner.client.run import Run
from runner.record.entries import AttemptBegan, CheckpointPublished, StageStarted
from tests.unit.cli.kit import call, unstarted, write_lines, write_project


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A training that goes on; its checkpoints and metrics are the test's."""
    monkeypatch.chdir(write_project(tmp_path).resolve())
    made = unstarted()
    made.bundle.log.append(AttemptBegan(leg=1, attempt=1))
    made.bundle.log.append(StageStarted(stage="train", attempt=1))
    return made


def checkpoint(run: Run, step: int, best: bool) -> str:
    key = run.bundle.checkpoint("train", step, 1)
    run.bundle.store.put(f"{key}/manifest.json", b'{"files": {}}')
    run.bundle.log.append(CheckpointPublished("train", step, key, {"loss": float("nan")}, best, "0" * 64))
    return key


def strict(*words: str, code: int = 0) -> Any:
    """The document of a command, read without Python's additions to JSON."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(call(*words, "-o", "json", code=code).stdout, parse_constant=refuse)


def times(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(name, value) of every field that holds a point in time."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from times(part, key)
    elif isinstance(value, list):
        for part in value:
            yield from times(part, name)
    elif name in ("at", "started", "submitted", "resumed", "ended", "made", "since", "until"):
        yield name, value


@pytest.mark.parametrize(
    "words", [["status"], ["metrics"], ["logs"], ["ps"], ["data", "ls"], ["why"], ["submit", "tiny"]]
)
def test_every_document_is_strict_json_with_one_shape_of_times(run: Run, words: list[str]) -> None:
    """Not-a-number and infinities are strings; a time is UTC to the millisecond, or null."""
    checkpoint(run, 2, best=True)
    rows = [{"at": 1.5, "step": k, "loss": value} for k, value in enumerate((1.0, float("nan"), float("-inf")))]
    write_lines(run.bundle, "train", "metrics", "rank0", *map(json.dumps, rows))
    write_lines(run.bundle, "train", "logs", "rank0", "hello")
    document = strict(*words)
    found = [(name, value) for name, value in times(document) if value is not None]
    assert all(len(value) == len("2026-11-23T19:35:21.042Z") and value[-1] == "Z" for _, value in found), found
    if words == ["metrics"]:
        assert [row["loss"] for row in document["rows"]] == [1.0, "NaN", "-Infinity"]
        assert document["rows"][0]["at"] == "1970-01-01T00:00:01.500Z"


def test_only_checkpoints_that_are_there_are_listed_and_one_of_them_is_best(run: Run) -> None:
    """However many were the best when they were made."""
    keys = [checkpoint(run, step, best=step < 8) for step in (2, 4, 6, 8)]
    for gone in keys[:2]:
        run.bundle.store.delete_tree(gone)
    found = strict("status")["stages"][1]["checkpoints"]
    assert [(each["key"], each["best"], each["last"]) for each in found] == [
        (keys[2], True, False),
        (keys[3], False, True),
    ]
    out = call("status").stdout
    assert f"{keys[2]} (best, step 6)" in out
    assert f"{keys[3]} (last, step 8)" in out
    assert keys[0] not in out
    run.bundle.store.delete_tree(keys[2])
    assert [each["best"] for each in strict("status")["stages"][1]["checkpoints"]] == [False]


def test_whatever_python_holds_becomes_json() -> None:
    """Paths, sets, enums and odd keys are said in strings and lists."""
    given = {1: Path("/x"), None: {2}, ("a", 1): Output.JSON, "n": (float("inf"), True, None)}
    made = plain(given)
    assert made == {"1": "/x", "None": [2], "['a', 1]": "json", "n": ["Infinity", True, None]}
    json.dumps(made, allow_nan=False)
