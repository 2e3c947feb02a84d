"""Reads back what a run's processes wrote: segments of logs and metrics, in order, also while they grow."""

from __future__ import annotations

import bisect
import contextlib
import heapq
from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from runner.record.bundle import Bundle
from runner.record.rows import row_of, rows_of
from runner.untrusted.shapes import Misshapen, count, loads, moment, several
from runner.untrusted.skipped import skipped

#: A line that is longer, and still has no end where a segment ends, is shown as several.
LINE_BYTES = 16 << 20


def _mark(value: Any, at: str) -> None:
    """From which byte of a segment on it was printed at which moment."""
    several(moment)(value, at)
    if len(value) != 2:
        raise Misshapen(f"{at} is no pair")
    count(value[0], at)


_MARKS = several(_mark)


class Line(NamedTuple):
    """One line that a process printed.

    Args:
        at: when it was finished, in seconds since 1970, to about a tenth of a second; 0.0 where that is not known.
        label: who printed it: ``stage/writer``.
        text: of a line that was drawn over itself (a progress bar) what stood there last.
    """

    at: float
    label: str
    text: str


class Tail:
    """What was added since the last look.

    Args:
        bundle: of the run.
        kind: 'logs' or 'metrics'.
        stage: only this stage; None for all.
        writer: only this writer; None for all.
        timed: look up when each line was printed, and give lines in that order.
    """

    def __init__(
        self, bundle: Bundle, kind: str, stage: str | None = None, writer: str | None = None, timed: bool = False
    ) -> None:
        self._bundle, self._kind, self._stage, self._writer, self._timed = bundle, kind, stage, writer, timed
        self._readers: dict[str, _Reader] = {}

    def lines(self) -> Iterator[tuple[str, str]]:
        """(stage/writer, line) for every whole line since the last call."""
        for line in self.records():
            yield line.label, line.text

    def records(self, final: bool = False) -> Iterator[Line]:
        """Every line since the last call, writer by writer; by time over all of them where times are looked up.

        Args:
            final: also the last line of each writer, if it has no end yet.
        """
        readers = self._all()
        for reader in readers:
            reader.begin()
        heads = [(self._when(reader), number) for number, reader in enumerate(readers) if reader.fill(final)]
        heapq.heapify(heads)
        while heads:
            _, number = heapq.heappop(heads)
            reader, until = readers[number], heads[0] if heads else None
            while reader.fill(final):
                head = (self._when(reader), number)
                if until is not None and head > until:
                    heapq.heappush(heads, head)
                    break
                yield reader.ready.popleft()

    def _when(self, reader: _Reader) -> float:
        return reader.ready[0].at if self._timed else 0.0

    def last(self, number: int, final: bool = False) -> Iterator[Line]:
        """As `records`, and at most the last `number` of them; reads no more than it needs of each writer."""
        for reader in self._all():
            reader.wind(number)
        yield from deque(self.records(final), maxlen=number)

    def rows(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """(stage/writer, row) for every row of metrics since the last call."""
        for label, line in self.lines():
            try:
                yield label, row_of(line)
            except Misshapen as error:
                skipped(f"{self._bundle.store.url}: the metrics of {label}", str(error))

    def skip(self) -> None:
        """Pass over all that is there now, without reading more than the last segment of each writer."""
        for reader in self._all():
            reader.skip()

    def unfinished(self) -> str:
        """What stands on a last line that has no end yet, such as a progress bar; "" if there is none."""
        texts = (reader.unfinished for reader in self._readers.values())
        return next((text for text in texts if text), "")

    def _all(self) -> list[_Reader]:
        stages = [self._stage] if self._stage else self._bundle.stage_files.stages()
        found = []
        for stage in stages:
            for attempt in self._bundle.stage_files.attempts(stage):
                for writer in self._bundle.stage_files.writers(stage, attempt, self._kind):
                    if self._writer in (None, writer):
                        found.append(self._reader(stage, attempt, writer))
        return found

    def _reader(self, stage: str, attempt: int, writer: str) -> _Reader:
        folder = self._bundle.stage_files.segments(stage, attempt, self._kind, writer)
        if folder not in self._readers:
            times = self._bundle.stage_files.segments(stage, attempt, "times", writer) if self._timed else None
            self._readers[folder] = _Reader(self._bundle, f"{stage}/{writer}", folder, times)
        return self._readers[folder]


class _Reader:
    """One writer's segments as lines. What was read and not taken yet stays, whatever goes wrong elsewhere.

    Args:
        times: the folder with the times of its segments; None if nobody asks for them.
    """

    def __init__(self, bundle: Bundle, label: str, folder: str, times: str | None) -> None:
        self._bundle, self._label, self._folder, self._times = bundle, label, folder, times
        self.ready: deque[Line] = deque()
        self._names: deque[str] = deque()
        self._offset = 0
        self._begun: list[bytes] = []  # of a line that has no end yet
        self._at = 0.0
        self._mid_line = False  # what comes first is the rest of a line whose beginning was passed over

    def begin(self) -> None:
        """See what there is now."""
        self._names = deque(
            name for name in self._bundle.stage_files.offsets(self._folder) if int(name) >= self._offset
        )

    def fill(self, final: bool) -> bool:
        """Read on until a line is ready. Returns False if there is none."""
        while not self.ready and self._names:
            name = self._names[0]
            data, marks = self._bundle.stage_files.segment(self._folder, name), self._marks(name)
            self._offset = int(self._names.popleft()) + len(data)
            self._take(data, marks)
        if final and not self.ready and self._begun:
            self.ready.append(self._line(b"".join(self._begun)))
            self._begun = []
        return bool(self.ready)

    def _take(self, data: bytes, marks: list[tuple[int, float]]) -> None:
        offsets = [offset for offset, _ in marks]
        place = 0
        while (end := data.find(b"\n", place)) >= 0:
            number = bisect.bisect_right(offsets, end) - 1
            self._at = max(self._at, marks[number][1]) if number >= 0 else self._at
            whole = b"".join([*self._begun, data[place:end]])
            self._begun, place = [], end + 1
            if not self._mid_line:
                self.ready.append(self._line(whole))
            self._mid_line = False
        if place < len(data):
            self._at = max(self._at, marks[-1][1]) if marks else self._at
            self._begin_line(data[place:])
        if sum(map(len, self._begun)) > LINE_BYTES:
            self.ready.append(self._line(b"".join(self._begun)))
            self._begun, self._mid_line = [], False

    def _begin_line(self, rest: bytes) -> None:
        """Keep the beginning of a line. What was drawn over is not needed, and of a progress bar it may be long."""
        over = rest.rstrip(b"\r").rfind(b"\r") + 1
        if over or (self._begun and self._begun[-1].endswith(b"\r") and rest.strip(b"\r")):
            self._begun = []
        self._begun.append(rest[over:])

    def _line(self, data: bytes) -> Line:
        return Line(self._at, self._label, settled(data).decode(errors="replace"))

    def _marks(self, name: str) -> list[tuple[int, float]]:
        if self._times is not None:
            with contextlib.suppress(FileNotFoundError):  # of a writer whose times nobody has noted
                return self._read_marks(name, self._bundle.stage_files.segment(self._times, name))
        return []

    def _read_marks(self, name: str, data: bytes) -> list[tuple[int, float]]:
        try:
            marks = loads(data)
            _MARKS(marks, "")
            return sorted((int(offset), float(at)) for offset, at in marks)
        except Misshapen as error:
            skipped(f"{self._bundle.store.url}/{self._times}/{name}", str(error))
            return []

    @property
    def unfinished(self) -> str:
        """What stands on the last line, which has no end yet."""
        return "" if self._mid_line else settled(b"".join(self._begun)).decode(errors="replace")

    def wind(self, number: int) -> None:
        """Go to where at most the last `number` lines begin, and some lines before them."""
        names, found = self._bundle.stage_files.offsets(self._folder), 0
        while names and found <= number:
            name = names.pop()
            found += self._bundle.stage_files.segment(self._folder, name).count(b"\n")
            self._offset = int(name)
        self._mid_line = self._offset > 0

    def skip(self) -> None:
        """Pass over what has been written so far."""
        names = self._bundle.stage_files.offsets(self._folder)
        if names:
            self._offset = int(names[-1]) + len(self._bundle.stage_files.segment(self._folder, names[-1]))


def settled(line: bytes) -> bytes:
    """What stands on a line after all of it was drawn: what follows its last carriage return."""
    shown = line.rstrip(b"\r")
    return shown[shown.rfind(b"\r") + 1 :]


def last_word(bundle: Bundle, stage: str, attempt: int) -> float | None:
    """When an attempt at a stage last reported, in seconds since 1970; reads the last segment of each writer only."""
    times = []
    for writer in bundle.stage_files.writers(stage, attempt, "metrics"):
        folder = bundle.stage_files.segments(stage, attempt, "metrics", writer)
        for name in bundle.stage_files.offsets(folder)[-1:]:
            times += [row.get("at", 0.0) for row in rows_of(bundle, folder, name)[-1:]]
    return max(times, default=None)


def metric_rows(bundle: Bundle, stage: str | None = None, writer: str | None = None) -> Iterator[dict[str, Any]]:
    """Metric rows in order of stage and step.

    Steps that a cut attempt had done after its last checkpoint are done again by the next attempt; of each step only
    the last row counts.
    """
    stages = [stage] if stage else bundle.stage_files.stages()
    for name in stages:
        by_step: dict[Any, dict[str, Any]] = {}
        for attempt in bundle.stage_files.attempts(name):
            fresh = list(_attempt_rows(bundle, name, attempt, writer))
            first = min((row["step"] for row in fresh if "step" in row), default=None)
            if first is not None:
                by_step = {key: row for key, row in by_step.items() if row.get("step", -1) < first}
            for number, row in enumerate(fresh):
                key = row["step"] if "step" in row and writer else (attempt, number)
                by_step[key] = {**by_step.get(key, {}), **row, "stage": name}
        yield from by_step.values()


def _attempt_rows(bundle: Bundle, stage: str, attempt: int, writer: str | None) -> Iterator[dict[str, Any]]:
    for who in bundle.stage_files.writers(stage, attempt, "metrics"):
        if writer in (None, who):
            folder = bundle.stage_files.segments(stage, attempt, "metrics", who)
            for name in bundle.stage_files.offsets(folder):
                yield from rows_of(bundle, folder, name)
