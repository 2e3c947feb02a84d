"""Fetching of ranges: planned, many at a time within a budget of bytes, tried again, asked for twice when late."""

from runner.data.files.fetch.counters import Fetched, fetched
from runner.data.files.fetch.promise import Promise
from runner.data.files.fetch.source import Source

__all__ = ["Fetched", "Promise", "Source", "fetched"]
