"""Arrow arrays that are made without pandas."""

from __future__ import annotations

import pyarrow as pa
import pytest

from runner.data.values import arrays


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
