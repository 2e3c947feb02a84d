"""One remote file, by ranges."""

from __future__ import annotations

import bisect
import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from runner.data.files.changed import FileChanged, Version
from runner.data.files.engines.base import Attempt, Data, Engine, Passing, Unfit
from runner.data.files.engines.choose import engine
from runner.data.files.fetch import pool as pools
from runner.data.files.fetch.counters import Fetched, count, reader
from runner.data.files.fetch.latency import Latencies
from runner.data.files.fetch.patience import budget, policy
from runner.data.files.fetch.pool import Pool, pool
from runner.data.files.fetch.promise import Key, Part, Promise, chain, claim, is_promised
from runner.data.files.fetch.spans import Shape, cut, shape_of, spans
from runner.data.files.fetch.stages import Piece
from runner.data.files.inherited import keep
from runner.errors import DataAway, RunnerError

#: Versions of files that a process remembers, so that files that are opened anew are still the same.
_REMEMBERED = 4096
_versions: OrderedDict[tuple[str, int, str], Version] = OrderedDict()
_latencies: dict[str, Latencies] = {}
_lock = threading.Lock()


def _anew() -> None:
    """In a forked process: the lock may be one that a thread of the parent held."""
    global _lock, _latencies, _versions
    _lock, _latencies, _versions = threading.Lock(), {}, OrderedDict()


os.register_at_fork(after_in_child=_anew)


class Source:
    """A file of an fsspec file system, read by requests of this process' pool.

    Args:
        path: of the file in `fs`.
        size: bytes that were listed.
        etag: as in `SourceFile.etag`; '' where it is not known.
    """

    def __init__(self, fs: Any, path: str, size: int, etag: str = "") -> None:
        self._fs, self._path, self._size, self._etag = fs, path, size, etag
        self.url = _shown(fs, path)
        scheme = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        self._shape = shape_of(scheme)
        self._reader = reader()
        self._begin()

    def _begin(self) -> None:
        self._process, self._is_plain = os.getpid(), False
        self._engine: tuple[Engine, bool] | None = None
        self._version = _version(self.url, self._size, self._etag)
        self._latencies = _latencies_of(self.url)

    def _pool(self) -> Pool:
        """That of this process; one that was forked has a client of its own."""
        if self._process != os.getpid():
            keep(self._fs)
            self._fs = type(self._fs)(*self._fs.storage_args, **self._fs.storage_options)
            self._begin()
        return pool()

    def _fit(self) -> tuple[Engine, bool]:
        """The engine, and whether it is fsspec's own; threads may ask at once."""
        found, is_plain = self._engine, self._is_plain
        if found is None or found[1] is not is_plain:
            found = engine(self._fs, self._path, self._size, self._version, plain=is_plain), is_plain
            self._engine = found
        return found

    @property
    def key(self) -> Key:
        """Which file this is."""
        return self.url, self._size, self._etag

    @property
    def size(self) -> int:
        """Bytes that were listed."""
        return self._size

    @property
    def shape(self) -> Shape:
        """How ranges become requests."""
        return self._shape

    def spans(self, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
        """The requests [start, end) that are made for ranges (start, length)."""
        return spans(ranges, self._size, self._shape)

    def chain(self, start: int) -> list[Part]:
        """What was promised of the file from `start` on without a gap."""
        self._pool()
        return chain(self.key, start)

    def ask_spans(self, wanted: Sequence[tuple[int, int]]) -> list[Part]:
        """Begin to fetch what `spans` gave."""
        return self._ask(list(wanted))

    def ask(self, ranges: Iterable[tuple[int, int]]) -> list[Part]:
        """Begin to fetch ranges (start, length); the parts cover them, in order of the file."""
        return self._ask(self.spans(ranges))

    def ask_all(self, start: int, end: int) -> list[Part]:
        """Begin to fetch [start, end)."""
        return self._ask(cut(start, min(end, self._size), self._shape.most))

    def _ask(self, wanted: list[tuple[int, int]]) -> list[Part]:
        """What was promised is taken from there."""
        own = self._pool()
        found = [claim(self.key, *span) for span in wanted]
        new: Iterator[Part] = iter(
            own.ask(self, [span for span, part in zip(wanted, found, strict=True) if part is None])
        )
        return [part or next(new) for part in found]

    def promise(self, ranges: Iterable[tuple[int, int]]) -> Promise:
        """Begin to fetch ranges (start, length) for whoever will ask for just these."""
        return Promise(self.key, self._pool().ask(self, self.spans(ranges)))

    def promise_stages(self, pieces: Sequence[Piece]) -> Promise:
        """The same of pieces that come one after the other, as the promise is told to send for them.

        Args:
            pieces: in the order in which they are needed.
        """
        own = self._pool()
        parts, places = own.plan(self, [(piece.start, piece.end) for piece in pieces]), [one.place for one in pieces]
        return Promise(self.key, parts, lambda until, at: own.send(parts[: bisect.bisect_left(places, until)], at))

    def plan(self, pieces: Sequence[Piece]) -> tuple[list[Part], Callable[[int, int], None] | None]:
        """The pieces as parts, to be fetched as they are waited for, or sent for.

        Returns:
            (parts, send): what was promised is taken from there, and whoever has promised it sends for it: then `send`
                is None; else it sends for the parts from one number on up to another.
        """
        own = self._pool()
        found = [claim(self.key, piece.start, piece.end) for piece in pieces]
        missing = [(piece.start, piece.end) for piece, part in zip(pieces, found, strict=True) if part is None]
        new = own.plan(self, missing)
        fresh: Iterator[Part] = iter(new)
        parts = [part or next(fresh) for part in found]
        return parts, None if len(new) < len(parts) else lambda start, stop: own.send(new[start:stop])

    def claimed(self, ranges: Iterable[tuple[int, int]]) -> list[Part] | None:
        """The parts of ranges (start, length), where just these were promised; else None."""
        wanted = self.spans(ranges)
        self._pool()
        if not is_promised(self.key, wanted):
            return None
        return self._ask(wanted)

    def take(self, parts: Iterable[Part]) -> Iterator[tuple[int, Data]]:
        """Where each part begins, and its bytes, as they are there; those that are left are let go of."""
        left = list(parts)
        try:
            while left:
                part = left.pop(0)
                yield part.start, part.take()
        finally:
            for part in left:
                part.drop()

    # -- what the pool's threads do --------------------------------------------------------------------------------

    def read(self, start: int, end: int, part: pools.Part) -> Data:
        """The bytes [start, end), tried again where that may help.

        Raises:
            DataAway: the store does not answer, or the process has tried again too often.
            FileChanged, FileNotFoundError, PermissionError, OSError: no other try will help.
        """

        def tell(_: RunnerError) -> None:
            part.begun = None  # nothing is under way in a pause that could be late
            self.count(Fetched(retries=1))

        retry = policy()
        return retry(lambda: self.once(start, end, part.begin()), retry.trouble(part.over, tell=tell))

    def once(self, start: int, end: int, attempt: Attempt) -> Data:
        """The same by one request. Raises DataAway where another may help."""
        begin = time.monotonic()
        self.count(Fetched(requests=1))
        fit, is_plain = self._fit()
        try:
            data = fit.get(start, end, attempt)
        except Unfit:
            if is_plain:
                raise
            self._is_plain = True  # also for requests that are under way beside this one
            return self.once(start, end, attempt)
        except Passing as error:
            raise self._away(str(error), start, end) from error
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "there is no such file", self.url) from error
        except FileChanged:
            raise
        except PermissionError as error:
            raise PermissionError(
                error.errno or errno.EACCES, f"no permission to read it ({error})", self.url
            ) from error
        finally:
            self.count(Fetched(seconds=time.monotonic() - begin))
        self._latencies.add(end - start, time.monotonic() - begin)
        budget().earn()
        return data

    def count(self, more: Fetched) -> None:
        """Add to what is fetched for the reader who has opened the file."""
        count(more, self._reader)

    def late_after(self, size: int) -> float:
        """Seconds after which a request of so many bytes is late."""
        return self._latencies.late_after(size)

    def may_hedge(self) -> bool:
        """Whether a second request may be sent beside one that is late; it is then counted."""
        return self._latencies.may_hedge()

    def _away(self, found: str, start: int, end: int) -> DataAway:
        return DataAway(
            f"bytes {start} to {end} do not come ({found})",
            allowed="a store that answers",
            todo="see whether it is up and can be reached from here, and try again",
            where=self.url,
        )

    def too_late(self, start: int, end: int, seconds: float) -> DataAway:
        """The error where a reader has waited as long as it may."""
        return self._away(f"waited for {seconds:.0f} s", start, end)


def _shown(fs: Any, path: str) -> str:
    """The URL without what may be a secret: a user's name and password, and the query."""
    url = str(fs.unstrip_protocol(path)).partition("?")[0]
    scheme, mark, rest = url.partition("://")
    host, slash, after = rest.partition("/")
    return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{after}"


def _version(url: str, size: int, etag: str) -> Version:
    with _lock:
        key = url, size, etag
        version = _versions.setdefault(key, Version(etag))
        _versions.move_to_end(key)
        while len(_versions) > _REMEMBERED:
            _versions.popitem(last=False)
    return version


def _latencies_of(url: str) -> Latencies:
    """Those of the server, or of the bucket."""
    with _lock:
        return _latencies.setdefault(urlsplit(url).netloc, Latencies())
