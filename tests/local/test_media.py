"""Trainings that hear and watch: real runs, whose processes find PyAV's FFmpeg."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import runner
from tests.unit.data.media_kit import library_path, sound, video

JOB = """
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import torch
from runner import Audio, Dataset, Job, Train, Video


@dataclass(frozen=True)
class Config:
    die_at: int = 0


def same(batch, config):
    return dict(batch)


def train(ctx, config):
    model = ctx.prepare(torch.nn.Linear(1, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ctx.track(model=model, optimizer=optimizer)
    decode = {{
        "speech": Audio(16_000, seconds=0.3, crop="random"),
        "clip": Video("RGB", 16, 3, every=2, start="random", crop="random", flip=0.5),
    }}
    for batch in ctx.batches("train", global_batch_size=4, epochs=2, decode=decode):
        seen = [
            (int(at), hashlib.sha256(heard.numpy().tobytes() + watched.numpy().tobytes()).hexdigest())
            for at, heard, watched in zip(batch.positions, batch["speech"], batch["clip"])
        ]
        with open("{folder}/" + f"{{ctx.rank}}.jsonl", "a") as file:
            file.write(json.dumps(seen) + "\\n")
        loss = model(batch["speech.samples"][:, None].float()).mean() * 0
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ctx.step(loss=loss)
        marker = Path("{folder}/died")
        if ctx.step_number == config.die_at and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), 9)


job = Job(
    "hears",
    config=Config(),
    stages=[Train("train", fn=train, data={{"train": Dataset("{url}")}}, checkpoint_every_steps=2, {said})],
)
"""


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where the processes of runs find FFmpeg; skips where PyAV or torchcodec are not installed, in CI fails."""
    missing = [name for name in ("av", "torchcodec") if importlib.util.find_spec(name) is None]
    if missing:
        why = f"no FFmpeg for torchcodec: {' and '.join(missing)} not installed"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    return library_path(tmp_path_factory.mktemp("ffmpeg"))


@pytest.fixture
def media(libraries: str, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Rows of a sound and a video each, and an environment in which they can be decoded."""
    monkeypatch.setenv("LD_LIBRARY_PATH", libraries)
    sounds = [sound(("wav", "mp3", "flac")[n % 3], 0.4 + n / 20, 24_000) for n in range(10)]
    return [{"speech": one, "clip": video("mp4", 8 + n)} for n, one in enumerate(sounds)]


def lake(folder: Path, rows: list[dict[str, Any]]) -> str:
    """A Parquet file of these rows, with row groups of four."""
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "a.parquet", row_group_size=4)
    return str(folder)


def run(folder: Path, rows: list[dict[str, Any]], said: str, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> Any:
    """A run of the job that has ended."""
    url = lake(folder / "lake", rows)
    (folder / "jobs").mkdir()
    (folder / "jobs/hears.py").write_text(JOB.format(folder=folder, url=url, said=said))
    monkeypatch.chdir(folder)
    made = runner.submit("hears", store=str(folder / "store"), **changes)
    made.wait(240, check=False)
    return made


def seen(folder: Path) -> dict[int, str]:
    """Position -> a hash of what was decoded, of all ranks; what was seen twice was the same."""
    found: dict[int, str] = {}
    for file in folder.glob("*.jsonl"):
        for line in file.read_text().splitlines():
            for at, value in json.loads(line):
                assert found.setdefault(at, value) == value
    return found


@pytest.mark.timeout(900)
def test_the_same_is_heard_and_watched(
    tmp_path: Path, media: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One rank, two ranks whose workers decode, and a rank that is killed and goes on see the same values."""
    plain = run(tmp_path / "plain", media, "workers=1", monkeypatch)
    assert plain.status == "succeeded", plain.error
    expected = seen(tmp_path / "plain")
    assert len(expected) == 16
    ahead = 'workers=2, transform=same, on_data="cpu", data_workers=2'
    other = run(tmp_path / "ahead", media, ahead, monkeypatch)
    assert other.status == "succeeded", other.error
    assert seen(tmp_path / "ahead") == expected
    killed = run(tmp_path / "killed", media, "workers=1", monkeypatch, die_at=3)
    assert killed.status == "failed"
    again = killed.resume()
    again.wait(240, check=False)
    assert again.status == "succeeded", again.error
    assert seen(tmp_path / "killed") == expected
    assert (tmp_path / "killed/died").exists()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("said", ["workers=1", 'workers=1, transform=same, on_data="cpu", data_workers=2'])
def test_a_damaged_row_is_named(
    tmp_path: Path, media: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """A run that meets a damaged sound fails with its file and row, whoever decodes."""
    media[6]["speech"] = media[6]["speech"][:500]
    failed = run(tmp_path / "run", media, said, monkeypatch)
    assert failed.status == "failed"
    assert "a.parquet (unit 1, row 2): column 'speech'" in str(failed.error)
