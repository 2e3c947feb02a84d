"""A project whose runs start nothing (the fake backend), and the command line as a test calls it."""

from __future__ import annotations

import functools
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer.testing
from typer.testing import CliRunner, Result

from runner.backends.fake import FakeBackend
from runner.cli.commands import app
from runner.client import prepare, submit
from runner.client.run import Run
from runner.record import Bundle
from runner.record.entries import AttemptBegan, StageStarted, SupervisorBegan

#: The tree of commands is made once: that takes longer than most of them.
typer.testing._get_command = functools.cache(typer.testing._get_command)

JOB = """
from dataclasses import dataclass
from runner import Job, Prep, Train

@dataclass(frozen=True)
class Config:
    lr: float = 0.1

def tokens(batch, config):
    return batch

def fit(ctx, config):
    return None

job = Job("tiny", config=Config(), cluster="fake", stages=[
    Prep("tokens", fn=tokens, source="text", sink="tokens"),
    Train("train", fn=fit, data={"train": "tokens"}, workers=2),
])
"""
FILES = {
    "jobs/tiny.py": JOB,
    "clusters/fake.py": 'from runner import Cluster\ncluster = Cluster(backend="fake")\n',
    "datasets/text.py": 'from runner import Dataset\ndata = Dataset(url="lake/*.jsonl")\n',
    "lake/a.jsonl": '{"text": "one"}\n{"text": "two"}\n',
}


def write_project(root: Path, files: Mapping[str, str] = FILES) -> Path:
    """The project in `root`, which the caller makes the current folder."""
    FakeBackend.outcomes.clear()
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def call(*words: str, code: int = 0) -> Result:
    """Run a command; its exit code must be `code`."""
    result = CliRunner().invoke(app, list(words), prog_name="runner")
    assert result.exit_code == code, f"exit {result.exit_code}\n{result.stdout}\n{result.stderr}"
    return result


def call_json(*words: str, code: int = 0) -> Any:
    """Run a command with ``-o json``; its standard output must be one JSON document."""
    return json.loads(call(*words, "-o", "json", code=code).stdout)


def unstarted() -> Run:
    """A run that exists and on which nothing works; its supervisor, on another machine, is believed to live."""
    run = submit.create(prepare.prepare("tiny"))
    run.bundle.log.append(SupervisorBegan(host="elsewhere", pid=1, started=0.0))
    return run


def lost() -> Run:
    """A run whose supervisor was on this machine and is gone."""
    run = submit.create(prepare.prepare("tiny"))
    run.bundle.log.append(SupervisorBegan(host=os.uname().nodename, pid=2**30, started=0.0))
    run.bundle.log.append(AttemptBegan(leg=0, attempt=1))
    run.bundle.log.append(StageStarted(stage="tokens", attempt=1))
    return run


def write_lines(bundle: Bundle, stage: str, kind: str, writer: str, *lines: str) -> None:
    """Add a segment of logs or metrics of attempt 1."""
    folder = bundle.stage_files.segments(stage, 1, kind, writer)
    names = bundle.store.list(folder)
    offset = int(names[-1]) + len(bundle.store.get(f"{folder}/{names[-1]}")) if names else 0
    bundle.store.create(f"{folder}/{offset:015d}", "".join(f"{line}\n" for line in lines).encode())


def write_steps(bundle: Bundle, steps: int, stage: str = "train", validate_every: int = 10) -> None:
    """Metrics of a training as rank 0 writes them, with a validation now and then."""
    rows: list[dict[str, Any]] = []
    start = time.time() - steps
    for step in range(1, steps + 1):
        shared = {"at": start + step, "step": step, "epoch": step // 50}
        rows.append(
            {
                **shared,
                "samples": step * 32,
                "loss": 3.0 / step,
                "samples_per_s": 32.0,
                "wait_share": 0.25,
                "steps_total": 400,
            }
        )
        if step % validate_every == 0:
            rows.append({**shared, "validation_loss": 4.0 / step})
            rows.append({**shared, "phase": "validation", "seconds": 0.5})
    write_lines(bundle, stage, "metrics", "rank0", *(json.dumps(row) for row in rows))
