"""A folder on any fsspec URL: files created only if absent, the numbered log, who may read it."""

from runner.store.log import Entry, Log
from runner.store.store import LOCAL, Store

__all__ = ["LOCAL", "Entry", "Log", "Store"]
