"""What brings a log in a handful of requests, where each object costs one: snapshots, that hold many entries each.

Beside every 32nd entry its writer publishes ``snapshot-<number>.json``, once, with the entries up to that number,
byte for byte: as many as the greatest power of two that divides the number. So each entry is written again a few times,
and of 2,000 entries five snapshots and the last 16 entries are read.

A snapshot is no second truth. A listing of the log tells the size and the MD5 of every entry, and what does not agree
with that in all of its entries is not used; those are read themselves then, as where it is missing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from runner.errors import StoreBroken
from runner.store.place import Found
from runner.store.store import Store
from runner.untrusted.names import ENTRY_FILE, SNAPSHOT_FILE
from runner.untrusted.shapes import read, record, several, text
from runner.untrusted.skipped import skipped

#: A snapshot is made of so many entries or more: a power of two.
EVERY = 32
#: Bytes that an entry of a log may have, and a snapshot; objects and bytes that are asked for at once.
ENTRY_BYTES = SNAPSHOT_BYTES = 16 << 20
AT_ONCE, BYTES_AT_ONCE = 64, 32 << 20

_SNAPSHOT = record({"entries": several(text)})


def entry_key(prefix: str, number: int) -> str:
    """The key of an entry."""
    return f"{prefix}/{number:08d}.json"


def snapshot_key(prefix: str, number: int) -> str:
    """The key of the snapshot that ends with that entry."""
    return f"{prefix}/snapshot-{number:08d}.json"


def width(number: int) -> int:
    """How many entries the snapshot has that ends with that one; 0 where none ends."""
    return 0 if number % EVERY else number & -number


def encode(texts: Sequence[bytes]) -> bytes | None:
    """A snapshot of entries; None where they are too many bytes for one, or are no UTF-8."""
    try:
        data = json.dumps({"entries": [text.decode() for text in texts]}, ensure_ascii=False).encode()
    except UnicodeDecodeError:
        return None
    return data if len(data) <= SNAPSHOT_BYTES else None


@dataclass(frozen=True)
class _Part:
    """An object that brings entries, from the first to the last: a snapshot, or one that is itself an entry."""

    key: str
    first: int
    last: int
    bytes: int


class Ahead:
    """The entries of a log that a listing shows.

    Args:
        found: the listing.
    """

    def __init__(self, store: Store, prefix: str, found: Iterable[Found]) -> None:
        self._store, self._prefix = store, prefix
        self._entries: dict[int, Found] = {}
        self._snapshots: dict[int, Found] = {}
        for each in found:
            if ENTRY_FILE.fits(each.key):
                self._entries[int(each.key.partition(".")[0])] = each
            elif SNAPSHOT_FILE.fits(each.key) and each.bytes <= SNAPSHOT_BYTES:
                self._snapshots[int(each.key[len("snapshot-") : -len(".json")])] = each

    @property
    def numbers(self) -> list[int]:
        """Of all entries, also of those behind a gap."""
        return sorted(self._entries)

    def texts(self) -> Iterator[bytes]:
        """The entries from the first on, as far as they could be read: who wants the others asks for each."""
        done = 0
        while batch := _first_of(self._parts(done)):
            answers = self._store.get_all({part.key: part.bytes for part in batch})
            for part in batch:
                found = self._opened(part, answers.get(part.key))
                if found is None and part.first == part.last:
                    return
                if found is None:
                    self._snapshots.clear()  # where one cannot be used, another may be no better
                    break
                done = part.last
                yield from found

    def _parts(self, done: int) -> list[_Part]:
        """The objects that bring what is behind the entries that are done."""
        parts, last = [], done
        while last + 1 in self._entries and self._entries[last + 1].bytes <= ENTRY_BYTES:
            last += 1
        while last > done:
            snapshot, size = self._snapshots.get(last), width(last)
            if snapshot is not None and size:
                parts.append(_Part(snapshot_key(self._prefix, last), last - size + 1, last, snapshot.bytes))
            else:
                size = 1
                parts.append(_Part(entry_key(self._prefix, last), last, last, self._entries[last].bytes))
            last -= size
        return parts[::-1]

    def _opened(self, part: _Part, data: bytes | None) -> list[bytes] | None:
        """The entries that an object brings; None where it does not."""
        if data is None or part.first == part.last:
            return None if data is None else [data]
        try:
            texts = [each.encode() for each in read(data, _SNAPSHOT, self._store.path(part.key))["entries"]]
        except StoreBroken as error:
            skipped(error.where, error.found)
            return None
        entries = [self._entries[number] for number in range(part.first, part.last + 1)]
        return texts if len(texts) == len(entries) and all(map(_is_of, texts, entries)) else None


def _is_of(text: bytes, entry: Found) -> bool:
    """Whether that is what the entry's own object holds."""
    return len(text) == entry.bytes and hashlib.md5(text, usedforsecurity=False).hexdigest() == entry.tag.strip('"')


def _first_of(parts: Iterable[_Part]) -> list[_Part]:
    """So many as are asked for at once."""
    batch: list[_Part] = []
    total = 0
    for part in parts:
        total += part.bytes
        if batch and (len(batch) == AT_ONCE or total > BYTES_AT_ONCE):
            break
        batch.append(part)
    return batch
