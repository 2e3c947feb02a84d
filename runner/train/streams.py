"""The streams of a training as checkpoints know them: by name and occurrence, each with its place.

`ctx.batches("train")` opened for the third time is occurrence 2 of "train". When a training goes on from a checkpoint,
the function runs from its start: an occurrence that had ended yields nothing, the open one goes on at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from runner.data.stream import Batch, Stats, Stream
from runner.errors import RunFailed
from runner.train.hooks import StepHook
from runner.train.metrics_rows import FETCHED

if TYPE_CHECKING:
    from runner.train.checkpoint.published import Loaded


@dataclass
class _Open:
    """A stream under way; its state is its place at the last step."""

    stream: Stream
    left: Callable[[], int] | None = None
    epochs: int | None = None

    def steps_left(self, per_step: int) -> int | None:
        """Steps to its end, when each takes `per_step` batches."""
        batches = self.stream.steps_left
        ends = [] if batches is None else [-(-batches // per_step)]
        if self.left is not None:
            ends.append(max(0, self.left()))
        return min(ends, default=None)


@dataclass
class Streams(StepHook):
    """The recorded streams of one rank.

    Args:
        before_batch: called before each batch is asked for: the moment between two steps.
        restored, restored_loop: the places and the loop over `epochs` when the checkpoint was made.
    """

    before_batch: Callable[[], None]
    restored: dict[str, Any] = field(default_factory=dict)
    restored_loop: dict[str, Any] | None = None
    loop: dict[str, Any] | None = None  # where the last loop over `epochs` stands
    epoch: int = 0
    rows: int = 0  # of this rank since the last `take_rows`
    batches: int = 0  # since the last step
    per_step: int = 1  # batches of the last step
    handed_out: bool = False  # any batch, in this attempt
    _loops: int = 0
    _opened: dict[str, int] = field(default_factory=dict)
    _epochs: dict[str, int] = field(default_factory=dict)
    _open: dict[tuple[str, int], _Open] = field(default_factory=dict)
    _last: dict[str, dict[str, Any]] = field(default_factory=dict)  # name -> the occurrence that ended last, and where
    _over: Stats = field(default_factory=Stats)  # of streams that have ended
    _waited: float = 0.0  # for what was done behind streams
    _waited_told: float = 0.0
    _told: Stats = field(default_factory=Stats)

    def begin(self, loaded: Loaded | None) -> None:
        """Go on at the places of a checkpoint."""
        if loaded is not None:
            made = loaded.manifest
            self.epoch, self.restored, self.restored_loop = made["epoch"], made["streams"], made["loop"]

    def next_epoch(self, name: str) -> int:
        """The epoch at which the next occurrence of `name` begins: behind those of the earlier ones."""
        return self._epochs.get(name, 0)

    def read(
        self, name: str, stream: Stream, epochs: int | None, left: Callable[[], int] | None = None
    ) -> Iterator[Batch]:
        """The batches of the next occurrence of `name`, from where the checkpoint had it.

        Args:
            left: how many steps the training has left, where it is steps that end the stream.
        """
        occurrence = self._opened.get(name, 0)
        self._opened[name] = occurrence + 1
        self._epochs[name] = self.next_epoch(name) + (epochs or 0)
        known = self.restored.get(name, {"opened": 0, "open": {}})
        place = known["open"].get(str(occurrence)) or _beyond(known.get("last"), occurrence, epochs)
        if occurrence < known["opened"] and place is None:
            return self._ended(stream)
        if place is not None:
            stream.load_state_dict(place)
        entry = _Open(stream, left, epochs)
        self._open[name, occurrence] = entry
        return self._batches((name, occurrence), entry)

    def _ended(self, stream: Stream) -> Iterator[Batch]:
        self.before_batch()
        stream.close()
        yield from ()

    def _batches(self, key: tuple[str, int], entry: _Open) -> Iterator[Batch]:
        entry.stream.mark()  # from here on its state is the place of the last step
        try:
            while True:
                self.before_batch()
                batch = None if entry.left is not None and entry.left() <= 0 else next(entry.stream, None)
                if batch is None:
                    name, number = key
                    self._last[name] = {"number": number, "epochs": entry.epochs, "state": entry.stream.state_dict()}
                    return
                self.epoch = batch.epoch
                self.rows += int(batch.mask.sum())
                self.batches += 1
                self.handed_out = True
                yield batch
        finally:
            self._over += entry.stream.stats()
            entry.stream.close()
            self._open.pop(key, None)

    def epochs(self, number: int) -> Iterator[int]:
        """0 to `number` - 1, without those that had ended when the checkpoint was made."""
        call, self._loops = self._loops, self._loops + 1
        known, start = self.restored_loop, 0
        if known is not None and call < known["call"]:
            return
        if known is not None and call == known["call"]:
            start, self._opened, self._epochs = known["number"], dict(known["opened"]), dict(known["epochs"])
        for epoch in range(start, number + 1):
            self.loop = {"call": call, "number": epoch, "opened": dict(self._opened), "epochs": dict(self._epochs)}
            if epoch < number:
                yield epoch

    # -- steps ---------------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """A step has consumed every batch handed out so far. Returns the rows of this rank since the last step."""
        for entry in self._open.values():
            entry.stream.mark()
        rows, self.rows = self.rows, 0
        self.per_step, self.batches = max(1, self.batches), 0
        return rows

    def state(self) -> dict[str, Any]:
        """All places at the last step, as JSON values. Rank-independent."""
        names = dict.fromkeys([*self.restored, *self._opened])
        return {"epoch": self.epoch, "streams": {name: self._state_of(name) for name in names}, "loop": self.loop}

    def _state_of(self, name: str) -> dict[str, Any]:
        opened = self._opened.get(name, 0)
        known = self.restored.get(name, {"opened": 0, "open": {}})
        later = {k: v for k, v in known["open"].items() if int(k) >= opened}  # not reached again yet
        open_ = {str(occurrence): e.stream.state_dict() for (n, occurrence), e in self._open.items() if n == name}
        last = self._last.get(name, known.get("last"))
        return {"opened": max(opened, known["opened"]), "open": {**later, **open_}, "last": last}

    @property
    def steps_left(self) -> int | None:
        """Steps to the end of what is open, where one stream is open and it ends."""
        if len(self._open) != 1:
            return None
        return next(iter(self._open.values())).steps_left(self.per_step)

    def waited(self, seconds: float) -> None:
        """The consumer has waited so long for what was done to a batch after it was read."""
        self._waited += seconds

    def take_wait_s(self) -> float:
        """Seconds that the consumer waited since the last call."""
        total = self._waited + self._stats.wait_s
        waited, self._waited_told = total - self._waited_told, total
        return waited

    @property
    def _stats(self) -> Stats:
        return sum((entry.stream.stats() for entry in self._open.values()), self._over)

    def tell(self) -> dict[str, Any]:
        """What this rank has fetched from other machines since it last told; nothing where that is nothing."""
        now = self._stats
        new, self._told = now - self._told, now
        found = (new.requests, new.retries, new.fetched_bytes, new.cached_bytes)
        return {"fetched": dict(zip(FETCHED, found, strict=True))} if any(found) else {}

    def close(self) -> None:
        """Stop every stream's reading ahead."""
        for entry in list(self._open.values()):
            entry.stream.close()


def check_places(states: list[dict[str, Any]]) -> None:
    """Raise RunFailed if ranks, in their order, are not at the same place of a stream that they all read: each takes
    rows of a batch of its own then, so some are taken twice and some not at all.

    What ranks have set aside differs between two exchanges.

    Args:
        states: of each rank; streams that only some of them read are theirs.
    """
    for rank, state in enumerate(states):
        for name in states[0].keys() & state.keys():
            first, other = states[0][name], state[name]
            if first["opened"] != other["opened"] or first["open"].keys() != other["open"].keys():
                continue
            differing = [
                f"{field} is {value!r} on rank 0 and {other['open'][number].get(field)!r} on rank {rank}"
                for number, place in first["open"].items()
                for field, value in place.items()
                if field != "quarantine" and value != other["open"][number].get(field)
            ]
            if differing:
                raise RunFailed(
                    f"ranks read different data in ctx.batches('{name}'): {'; '.join(differing)}. Every rank must give "
                    "it the same arguments, also the same batch size"
                )


def _beyond(last: dict[str, Any] | None, occurrence: int, epochs: int | None) -> dict[str, Any] | None:
    """Where the occurrence that ended last goes on, if it is to go further now than it was to go then."""
    if last is None or last["number"] != occurrence:
        return None
    further = epochs is None or (last["epochs"] is not None and epochs > last["epochs"])
    place: dict[str, Any] | None = last["state"] if further else None
    return place
