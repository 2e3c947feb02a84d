"""Every kind of entry is written and read by one class, and read as strictly as it was written."""

from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pytest

from runner.errors import RunFailed, StoreBroken
from runner.record import fold
from runner.record.entries import KINDS, StageDone, StageResult, Submitted
from runner.record.failures import Failure, Parts, failed
from runner.store import Log, Store
from runner.store.events import Event, Unknown
from runner.untrusted.shapes import Misshapen
from tests.unit.record.entry_kit import event

SEED = 20261130
ERROR = dataclasses.replace(failed(RunFailed, "x", stage="a"), causes=("why",), parts=Parts("found", "allowed"))
#: For each field of an entry what it may hold.
VALUES: dict[str, list[Any]] = {
    "job": ["tiny"], "legs": [(("a", "b"), ("c",)), ()], "by": ["ann", "ann é"], "inline": [True], "held": [True],
    "sealed": [{"spec.json": "00"}, None], "signed": ["00", None], "code": ["code-2.zip", None],
    "spec": ["spec-2.json", None], "again": [("a",), None], "changed": [None, [{"what": "x"}]], "host": ["h"],
    "pid": [1, 2**31], "started": [0.0, 1.5], "machine": ["m"], "boot": ["b"], "space": ["s"], "message": ["m"],
    "error_class": ["ApiError"], "trace": ["t", None], "rank": [None, 3], "parts": [None],
    "named": ["store-away", "of-tomorrow"], "leg": [0, 9999],
    "attempt": [0, 7], "because": ["", "lost"], "causes": [(), ("x", "y")], "error": [ERROR, Failure("Future", "x")],
    "state": ["failed", "succeeded"], "seconds": [0.0, 2.5], "stage_seconds": [{"a": 1.0}], "remains": [{"pods": 0}],
    "teardown_s": [None, {"asked": 1.0, "gone": 2.0}], "gpu_seconds_used": [None, 3.5], "name": ["data"],
    "id": ["0" * 32], "skipped": [True, False], "key": ["checkpoints/a/000000004-1"], "rows": [3], "bytes": [4],
    "files": [1], "stage": ["a"], "left_s": [3.5], "step": [4], "metrics": [{"loss": 0.5, "n": float("inf")}],
    "best": [True, False], "sha256": ["00"], "result": [StageResult.from_json({"rows_in": 3, "of_tomorrow": [1]})],
}  # fmt: skip


def drawn(kind: type[Event], chance: random.Random) -> Event:
    """One of that class with any values, fields with defaults given or not."""
    given = {}
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]
        needed = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if needed or chance.random() < 0.6:
            given[field.name] = chance.choice(VALUES[field.name])
    return kind(**given)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_is_read_back(kind: str, tmp_path: Path) -> None:
    """Through a log, whatever its fields are."""
    chance = random.Random(f"{SEED}{kind}")
    log = Log(Store(str(tmp_path)), "log", KINDS)
    events = [drawn(KINDS[kind], chance) for _ in range(40)]
    for each in events:
        log.append(each)
    assert [entry.event for entry in Log(Store(str(tmp_path)), "log", KINDS).read()] == events


@pytest.mark.parametrize("kind", KINDS)
def test_an_entry_of_tomorrow_is_read_today(kind: str) -> None:
    """Fields that are not known here are passed over."""
    chance = random.Random(f"{SEED}{kind}")
    for _ in range(20):
        made = drawn(KINDS[kind], chance)
        assert event(kind, {**json.loads(json.dumps(made.to_json())), "of_tomorrow": {"x": []}}) == made


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_another_kind_is_refused(kind: str) -> None:
    """One that must be there and is not, or a value that no writer writes."""
    made = drawn(KINDS[kind], random.Random(f"{SEED}{kind}"))
    told = json.loads(json.dumps(made.to_json()))
    for field in dataclasses.fields(made):  # type: ignore[arg-type]
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            with pytest.raises(Misshapen, match="is missing"):
                event(kind, {name: part for name, part in told.items() if name != field.name})
            with pytest.raises(Misshapen, match=f"data.{field.name}"):
                event(kind, {**told, field.name: [[3]]})


def test_a_kind_of_tomorrow_changes_nothing(tmp_path: Path) -> None:
    """It is read, kept as it is, and folded over."""
    log = Log(Store(str(tmp_path)), "log", KINDS)
    log.append(Submitted("tiny", (("a",),)))
    log.append(Unknown("of-tomorrow", {"x": [1]}))
    log.append(StageDone("a", StageResult.from_json({"skipped": True})))
    entries = Log(Store(str(tmp_path)), "log", KINDS).read()
    assert entries[1].event == Unknown("of-tomorrow", {"x": [1]})
    assert fold(entries).stages["a"].state == "skipped"


def test_what_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    """Whatever a writer has made of its class."""
    log = Log(Store(str(tmp_path)), "log", KINDS)
    for wrong in (Submitted("../x", ()), Submitted("x", (("../x",),))):
        with pytest.raises(StoreBroken, match="an entry 'submitted'"):
            log.append(wrong)
    assert log.read() == []
