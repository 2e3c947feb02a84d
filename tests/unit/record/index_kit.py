"""All lines of an index at once, as no command reads them."""

from __future__ import annotations

from runner.record.index import Index, IndexLine
from runner.store import Store


def read_index(store: Store) -> list[IndexLine]:
    """Every line of a store's index, oldest first."""
    return Index(store).lines()
