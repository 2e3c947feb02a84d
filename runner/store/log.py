"""A numbered log: entries that are created if absent, one after the other, and never rewritten."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from runner.errors import StoreError
from runner.store.events import Event, Kinds, event_of
from runner.store.snapshots import ENTRY_BYTES, Ahead, encode, entry_key, snapshot_key, width
from runner.store.store import LOCAL, Store
from runner.untrusted.names import ENTRY_FILE
from runner.untrusted.shapes import MOST_SIGNS, Misshapen, anything, broken, mapping, moment, record, signs, text
from runner.untrusted.shapes import read as read_json
from runner.untrusted.skipped import skipped

#: Bytes that all entries of a log may have together. A link, or a copy within a bucket, costs its writer nothing.
LOG_BYTES = 128 << 20
#: What is in an entry's file.
_ENTRY = record({"kind": text, "at": moment, "data": mapping(anything)}, {"mark": text})


@dataclass(frozen=True)
class Entry:
    """One entry of a log: its number from 1, when it was written (seconds since 1970) and what happened; and a mark
    that no other entry has.
    """

    number: int
    at: float
    event: Event
    mark: str = field(default="", compare=False)
    where: str = field(default="", compare=False, repr=False)  # its full path, for errors

    @property
    def kind(self) -> str:
        """The name of what happened."""
        return self.event.kind


class Log:
    """A series of numbered entries, each created if absent and never rewritten.

    An entry that is not what a writer of the log may write makes all of the log unreadable, for what follows means
    nothing without it: whoever reads gets StoreBroken, which names it. An entry behind one that is not there is none.

    Args:
        kinds: kind -> the class of what such an entry tells; what others tell is `Unknown`.
        skipped: how many of the first entries are there and known elsewhere: this one begins behind them.
    """

    def __init__(self, store: Store, prefix: str, kinds: Kinds | None = None, skipped: int = 0) -> None:
        self._store, self._prefix, self._kinds, self._skipped = store, prefix, dict(kinds or {}), skipped
        self._read: list[Entry] = []
        self._texts: list[bytes] = []  # of these, in an object store, where snapshots are made of them
        self._lock = threading.Lock()
        self._bytes = self._signs = 0  # of the entries that are kept here

    def after(self, number: int) -> Log:
        """The same from the entry behind that number on."""
        return Log(self._store, self._prefix, self._kinds, number)

    def mark(self, number: int) -> str | None:
        """That of an entry, by one request; None if it is not there."""
        found = self._fetch(number)
        return None if found is None else self._parsed(number, found).mark

    def read(self) -> list[Entry]:
        """All entries so far; those read before are not fetched again."""
        first = not self._read and not self._skipped
        listed = self._read_listed() if first else []
        if listed or not first:
            while self._read_number(self._next):
                pass
        for number in [number for number in listed if number > self._next]:
            skipped(self._store.path(self._key(number)), f"no entry {self._next} before it")
        return list(self._read)

    def _read_listed(self) -> list[int]:
        """The numbers of the entries that a listing shows; in an object store those have been read at once then."""
        if self._store.kind == LOCAL:
            names = self._store.list(self._prefix)
            return [int(name.partition(".")[0]) for name in names if ENTRY_FILE.fits(name)]
        ahead = Ahead(self._store, self._prefix, self._store.objects(self._prefix))
        for number, data in enumerate(ahead.texts(), 1):
            self._take_text(number, data)
        return ahead.numbers

    @property
    def _next(self) -> int:
        return self._skipped + len(self._read) + 1

    def head(self) -> Entry | None:
        """The first entry, by one request; None if there is none."""
        return self._read[0] if self._read or self._read_number(1) else None

    def append(self, event: Event, check: Callable[[list[Entry]], None] | None = None) -> Entry:
        """Add an entry after the last one.

        Args:
            check: called with all entries before each try; it raises (``Fenced``) where this writer may write no more.
        """
        while True:
            entries = self.read()
            if check is not None:
                check(entries)
            entry = Entry(self._skipped + len(entries) + 1, time.time(), event, secrets.token_hex(4))
            key, text = self._key(entry.number), _encode(entry)
            self._parsed(entry.number, text)  # what no reader would take is not written
            if self._store.create(key, text) or self._holds(key, text):
                self._take(entry, text)
                self._make_snapshot(entry.number)
                return entry

    def _make_snapshot(self, number: int) -> None:
        """That of the entries up to this one, if there is to be one and they have been read here."""
        size, end = width(number), number - self._skipped
        if not size or size > end or self._store.kind == LOCAL:
            return
        with self._lock:
            data = encode(self._texts[end - size : end])
        if data is not None:
            with contextlib.suppress(StoreError):  # a log without it is read all the same
                self._store.create(snapshot_key(self._prefix, number), data)

    def _holds(self, key: str, text: bytes) -> bool:
        """Whether what is there is ours: a request whose answer was lost is sent again, and refused then."""
        try:
            return self._store.get(key) == text
        except FileNotFoundError:
            return False

    def _key(self, number: int) -> str:
        return entry_key(self._prefix, number)

    def _read_number(self, number: int) -> bool:
        text = self._fetch(number) if number == self._next else None
        if text is not None:
            self._take_text(number, text)
        return text is not None

    def _take_text(self, number: int, text: bytes) -> None:
        if self._bytes + len(text) > LOG_BYTES or self._signs + signs(text) > MOST_SIGNS:
            raise broken(
                self._store.path(self._key(number)),
                f"with the entries before it more than {LOG_BYTES:,} bytes, or {MOST_SIGNS:,} commas, colons and "
                "brackets, of which a log has less",
            )
        self._take(self._parsed(number, text), text)

    def _fetch(self, number: int) -> bytes | None:
        try:
            return self._store.get(self._key(number), ENTRY_BYTES)
        except FileNotFoundError:
            return None

    def _parsed(self, number: int, text: bytes) -> Entry:
        where = self._store.path(self._key(number))
        if len(text) > ENTRY_BYTES:
            raise broken(where, f"an entry of {len(text):,} bytes, and at most {ENTRY_BYTES:,} are read")
        raw = read_json(text, _ENTRY, where)
        try:
            event = event_of(self._kinds, raw["kind"], raw["data"])
        except Misshapen as error:
            raise broken(where, f"of an entry '{raw['kind']}' {error}") from None
        return Entry(number, raw["at"], event, raw.get("mark", ""), where)

    def _take(self, entry: Entry, text: bytes) -> None:
        """Once: an entry that two threads read, or one reads while the other writes it, would leave a hole after it."""
        with self._lock:
            if entry.number == self._next:
                self._read.append(entry)
                if self._store.kind != LOCAL:
                    self._texts.append(text)
                self._bytes, self._signs = self._bytes + len(text), self._signs + signs(text)


def _encode(entry: Entry) -> bytes:
    """With its mark, so that a writer knows what it has written."""
    body = {"kind": entry.kind, "at": entry.at, "data": entry.event.to_json(), "mark": entry.mark}
    return json.dumps(body, sort_keys=True).encode()
