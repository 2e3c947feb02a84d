"""A project whose job has all that a submit or a resume may change; its runs start nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner import Cluster, Group
from runner.backends.fake import FakeBackend
from tests.unit.cli.kit import FILES, write_project

FAKE = Cluster(backend="fake", groups={"cpu": Group(cpu=4, price_per_hour=0.5, max=2), "gpu": Group(gpu=2, max=2)})

JOB = """
from dataclasses import dataclass
from runner import Job, Prep, Train

@dataclass(frozen=True)
class Model:
    layers: int = 2

@dataclass(frozen=True)
class Config:
    lr: float = 0.1
    words: int = 3
    epochs: int = 2
    model: Model = Model()

def tokens(batch, config):
    return batch

def train(ctx, config):
    return None

job = Job("tiny", config=Config(), stages=[
    Prep("tokens", fn=tokens, source="text", sink="tokens", workers=6, uses=("words",)),
    Train("train", fn=train, data={"train": "tokens"}, workers=3),
])
"""


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The project, which is the current folder: its job, and a dataset of two JSON-lines files."""
    files = {**FILES, "jobs/tiny.py": JOB, "lake/b.jsonl": FILES["lake/a.jsonl"]}
    root = write_project(tmp_path / "project", files)
    monkeypatch.chdir(root)
    FakeBackend.started.clear()
    return root
