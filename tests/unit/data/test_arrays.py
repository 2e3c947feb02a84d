"""Arrow arrays that are made without pandas."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.values import arrays
from tests import ROOT


@pytest.mark.parametrize("values", [[], [0], [-(2**63), 2**63 - 1, 7]])
def test_numbers_are_those_that_pyarrow_makes(values: list[int]) -> None:
    """Whole numbers of 64 bits."""
    made = arrays.numbers(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.int64()))


@pytest.mark.parametrize("values", [[], [""], ["a", "", "äß\n🚀"]])
def test_texts_are_those_that_pyarrow_makes(values: list[str]) -> None:
    """Empty ones and such of many bytes a letter as well."""
    made = arrays.texts(values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.string()))


@pytest.mark.parametrize("values", [[], [[]], [[1, 2], [], [3]]])
def test_lists_are_those_that_pyarrow_makes(values: list[list[int]]) -> None:
    """None at all, and empty ones."""
    made = arrays.lists(arrays.numbers([number for part in values for number in part]), values)
    made.validate(full=True)
    assert made.equals(pa.array(values, pa.list_(pa.int64())))


def test_what_does_not_fit_is_refused() -> None:
    """Nothing is cut to size."""
    with pytest.raises(OverflowError):
        arrays.numbers([2**63])
    with pytest.raises(UnicodeEncodeError):
        arrays.texts(["\ud800"])


def test_numbers_of_numpy_and_back() -> None:
    """Slices at any place, booleans among them; and nothing of it loads pandas."""
    for kind, values in ((pa.int16(), [1, -2, 3, 4, 5]), (pa.bool_(), [True, False, True, True, False] * 5)):
        whole = pa.array(values, kind)
        for start in range(4):
            assert arrays.numpy_of(whole.slice(start, 3)).tolist() == values[start : start + 3]
    assert arrays.numpy_of(pa.array([], pa.int32())).tolist() == []
    made = arrays.indices(np.arange(10)[::2])
    assert made.equals(pa.array([0, 2, 4, 6, 8]))
    made = arrays.binaries([b"a", None, b"", b"bcd"])
    made.validate(full=True)
    assert made.equals(pa.array([b"a", None, b"", b"bcd"], pa.binary()))
    code = (
        "import sys, numpy as np, pyarrow as pa; from runner.data.values import arrays; "
        "made = arrays.binaries([b'a']); arrays.indices(np.arange(3)); arrays.numpy_of(made.is_valid()); "
        "sys.exit('pandas' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def test_a_stream_loads_no_pandas(tmp_path: Path) -> None:
    """Its import takes longer than a first batch may."""
    table = pa.table({"i": [1, 2], "s": ["a", None], "l": [["x"], []], "b": [True, False], "f": [1.5, None]})
    pq.write_table(table, tmp_path / "a.parquet")
    code = (
        "import sys; from runner.data.stream import Stream\n"
        "for as_ in ('numpy', 'arrow'):\n"
        f"    [str(batch) for batch in Stream({str(tmp_path)!r}, 2, as_=as_)]\n"
        "    assert 'pandas' not in sys.modules, as_\n"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
