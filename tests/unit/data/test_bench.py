"""The stream's own measurement."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.manifest import build
from runner.data.stream.batch import Batch
from runner.data.stream.ragged import Ragged
from runner.data.survey import bench
from runner.data.survey.touched import touch
from runner.errors import DataError, WorkerLost


def test_a_setting_is_measured_for_its_time(tmp_path: Path) -> None:
    """Rows that came in the time, whatever the data's size; a batch is never larger than the data."""
    pq.write_table(pa.table({"x": list(range(20))}), tmp_path / "a.parquet")
    plan = bench.Plan(build(str(tmp_path)), batch_size=32, threads=(1, 2), seconds=0.1)
    found = bench.run(plan, bench.Setting(1))
    assert found.rows >= 20
    assert found.rows % 20 == 0
    assert 0.1 <= found.seconds < 5
    assert found.rows_s == pytest.approx(found.rows / found.seconds)
    assert 0 <= found.waiting <= 1
    assert found.peak_bytes >= 0
    assert found.cpu_s_gb > 0


def test_settings_vary_one_knob_at_a_time() -> None:
    """The most threads come first, which all else is compared with."""
    plan = bench.Plan(None, 32, (1, 4, 2), 1.0)  # type: ignore[arg-type]
    assert [(one.threads, one.shuffle, one.as_) for one in plan.settings("numpy")] == [
        (4, True, "numpy"), (2, True, "numpy"), (1, True, "numpy"), (4, False, "numpy"), (4, True, "arrow"),
    ]  # fmt: skip
    assert {one.as_ for one in plan.settings("arrow")} == {"arrow"}


def fails() -> None:
    raise DataError("no such thing", todo="look elsewhere")


def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_of_its_own_gives_its_errors() -> None:
    """An error comes as it was raised; a process that is killed is told as such."""
    with pytest.raises(DataError, match="no such thing"):
        bench.apart(fails)
    with pytest.raises(WorkerLost, match="-9"):
        bench.apart(dies)
    assert bench.apart(os.getpid) != os.getpid()


def test_every_value_of_a_batch_is_touched_and_no_other() -> None:
    """A batch that differs in one value gives another number; what lies beside a slice gives none."""
    whole = pa.array([b"12345678" * 4, b"abcdefgh" * 4, b"x" * 16])
    assert touch(Batch(x=whole.slice(1, 1))) == touch(Batch(x=pa.array([b"abcdefgh" * 4])))
    lists = pa.array([[1, 2], [3, 4], [5]], pa.list_(pa.int64()))
    assert touch(Batch(x=lists.slice(1, 1))) == 3 ^ 4
    assert touch(Batch(x=np.arange(6, dtype=np.int64).reshape(2, 3))) == 0 ^ 1 ^ 2 ^ 3 ^ 4 ^ 5
    assert touch(Batch(x=Ragged(np.array([7, 9], np.int64), np.array([0, 1, 2])))) == 7 ^ 9
    assert touch(Batch(x=pa.array([1, 2, 4], pa.int64()).slice(1))) == 2 ^ 4
