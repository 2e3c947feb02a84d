"""The formats of data by name, and the endings of files that tell them."""

from __future__ import annotations

#: Format -> endings. How each is read: `runner.data.formats`.
ENDINGS = {
    "parquet": ("parquet", "pq"),
    "ipc": ("arrow", "feather", "ipc", "arrows"),
    "jsonl": ("jsonl", "ndjson", "json"),
    "csv": ("csv", "tsv"),
    "text": ("txt", "text"),
    "tar": ("tar", "tgz"),
    "files": (),
}
FORMATS = tuple(ENDINGS)
#: Tables of other systems, whose log says which files they are made of.
TABLES = ("delta", "iceberg")
#: A manifest that runner has written.
MANIFEST = "manifest"


def format_of(ending: str) -> str | None:
    """The format that an ending tells, in lower case and without its dot."""
    return next((name for name, endings in ENDINGS.items() if ending in endings), None)
