"""Units of a training's data that cannot be read: set aside on every rank, kept by checkpoints, and shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.cli.summary import _of_result
from runner.data import manifest
from runner.data.stream import Stream
from runner.errors import DataDamaged, DataError
from runner.record.entries import StageResult
from runner.record.rows import row_of
from runner.train.aside import AsideUnits
from runner.train.gang.inline import InlineGang
from runner.train.stage import run_train
from runner.train.streams import check_places
from runner.views.progress import Progress, outcome
from tests.unit.data.units_kit import ROWS, UNITS, damage, write
from tests.unit.train.kit import Config, make_scope, rows_of


class Cut(Exception):
    """Stands for a kill."""


def fit(tmp_path: Path, fn: Any, config: Config | None = None, **stage: Any) -> tuple[dict[str, Any], Any]:
    given, scope = make_scope(tmp_path, fn, config, **stage)
    return run_train(given, scope, InlineGang()), scope


def reading(seen: list[list[int]], most: float = 0.3) -> Any:
    """A train function that notes the rows of each step, two epochs by two loops."""

    def train(ctx: Any, config: Any) -> None:
        for _ in ctx.epochs(2):
            for batch in ctx.batches("train", batch_size=16, max_quarantine=most):
                seen.append(batch["id"].tolist())
                ctx.step(loss=1.0)
                if ctx.step_number == config.at_step:
                    raise Cut
        with ctx.phase("check"):
            for _ in ctx.batches("train", batch_size=16, max_quarantine=most, columns=["id"]):
                pass

    return train


def test_a_training_sets_units_aside(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its result, its rows of metrics and its log name each with file, unit and error, once; the shape is the same."""
    write(tmp_path / "data", [5, 20])
    seen: list[list[int]] = []
    result, scope = fit(tmp_path, reading(seen))
    assert [len(step) for step in seen] == [16] * (2 * UNITS * ROWS // 16)
    assert result["quarantined"] == 2 * ROWS
    assert [(one["data"], Path(one["file"]).name, one["unit"]) for one in result["quarantine"]] == [
        ("train", "1.parquet", 2),
        ("train", "6.parquet", 2),
    ]
    told = [row for row in rows_of(scope) if "quarantined" in row]
    assert [row["quarantined"] for row in told] == [2 * ROWS] * 2
    assert "6.parquet (unit 2): " in told[1]["event"]
    assert "CRC" in told[1]["event"]
    assert capsys.readouterr().out.count("runner: set aside") == 2
    shown = StageResult.from_json(result)
    assert f"{2 * ROWS} rows quarantined" in outcome(shown)
    assert [label for label, _ in _of_result(shown)] == ["note", "note"]
    live = Progress("fit", "train")
    for row in rows_of(scope):
        live.add(row_of(json.dumps(row)))
    assert f"{2 * ROWS} rows quarantined" in live.parts(0.0)


def test_it_goes_on_with_the_same_rows(tmp_path: Path) -> None:
    """From a checkpoint, also in an epoch that was not begun then, though the files have been mended meanwhile."""
    whole: list[list[int]] = []
    for folder in ("whole", "cut"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "data", [5, 20])
    fit(tmp_path / "whole", reading(whole), checkpoint_every_steps=4)
    seen: list[list[int]] = []
    with pytest.raises(Cut):
        fit(tmp_path / "cut", reading(seen), Config(at_step=17), checkpoint_every_steps=4)
    write(tmp_path / "cut" / "data")  # every file has its bytes again
    del seen[16:]
    with pytest.raises(DataError, match="max_quarantine"):
        fit(tmp_path / "cut", reading([], 0.0), attempt=2)
    result, _ = fit(tmp_path / "cut", reading(seen), attempt=3)
    assert seen == whole
    assert result["quarantined"] == 2 * ROWS


def test_by_default_it_is_an_error(tmp_path: Path) -> None:
    """A training of damaged data fails, and no checkpoint is lost."""
    write(tmp_path / "data", [5])
    with pytest.raises(DataDamaged, match=r"1\.parquet \(unit 2\)"):
        fit(tmp_path, reading([], 0.0))
    with pytest.raises(DataError, match=r"20 of 480 rows \(4\.17%\)"):
        fit(tmp_path, reading([], 0.04), attempt=2)


def rank_of(data: Any, rank: int) -> tuple[AsideUnits, Stream, list[str]]:
    """One of four ranks that has read all of its rows, and what it says."""
    said: list[str] = []
    loop: Any = SimpleNamespace(
        step=3, epoch=0, say=said.append, metrics=SimpleNamespace(event=lambda **fields: said.append(fields["event"]))
    )
    aside, stream = AsideUnits(loop), Stream(data, 4, rank=rank, world_size=4, as_="numpy", max_quarantine=0.1)
    aside.watch("train", stream)
    for _ in stream:
        pass
    return aside, stream, said


def test_ranks_learn_what_the_others_have_found(tmp_path: Path) -> None:
    """After an exchange all have the same set aside, and a share that only all of them pass is passed on each."""
    write(tmp_path / "data", [2, 17])
    data = replace(manifest.build(tmp_path / "data"), lanes=4, block_bytes=800)
    ranks = [rank_of(data, rank) for rank in range(4)]
    tells = [aside.tell() for aside, _, _ in ranks]
    told: Any = SimpleNamespace(told={"quarantine": [one["quarantine"] for one in tells if one]})
    assert {len(told.told["quarantine"])} <= {1, 2}
    for aside, stream, said in ranks:
        aside.exchanged(told)
        assert set(stream.quarantines[""].known) == {2, 17}
        assert len(said) == 4
        assert aside.tell() == {}
    states = [{"train": {"opened": 1, "open": {"0": stream.state_dict()}}} for _, stream, _ in ranks]
    del states[2]["train"]["open"]["0"]["quarantine"]  # found since the exchange by the others
    check_places(states)
    damage(tmp_path / "data", 9)
    late = AsideUnits(ranks[0][0]._loop)
    late.exchanged(told)
    more = Stream(data, 4, as_="numpy", max_quarantine=0.05)
    with pytest.raises(DataError, match=r"40 of 480 rows \(8\.33%\)"):
        late.watch("train", more)
