"""Where a stream stands: passes over the data one after the other, each of some epochs."""

from __future__ import annotations

from dataclasses import dataclass, field

from runner.data.stream.steps import steps_in

#: An epoch, and how many rows of it have been seen.
Place = tuple[int, int]


@dataclass
class Passes:
    """The passes of one stream.

    Args:
        rows: of an epoch; global_batch, tail: how they are cut into steps.
        start: the first epoch.
        epochs: of one pass; None never ends.

    Attributes:
        at: behind the last batch handed out.
        end: the epoch before which this pass ends.
        over: whether this pass has ended.
        begun: the place where this pass began, once it has.
    """

    rows: int
    global_batch: int
    tail: str
    start: int
    epochs: int | None
    at: Place = field(init=False)
    end: int | None = field(init=False)
    over: bool = field(default=False, init=False)
    begun: Place | None = field(default=None, init=False)
    _marked: Place | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.at = (self.start, 0)
        self.end = None if self.epochs is None else self.start + self.epochs

    # -- from one to the next ------------------------------------------------------------------------------------

    def begin_next(self) -> None:
        """To the pass behind this one, which has an end."""
        assert self.end is not None
        assert self.epochs is not None
        self.over, self.at, self.end, self.begun = False, (self.end, 0), self.end + self.epochs, None

    def leave(self) -> None:
        """Break this one off: to the next pass; of one that never ends, to where it began."""
        assert self.begun is not None
        if self.end is not None:
            self.begin_next()
        else:
            self.at, self.begun = self.begun, None

    # -- steps ---------------------------------------------------------------------------------------------------

    @property
    def steps(self) -> int | None:
        """Of a whole pass; None if it never ends."""
        return None if self.epochs is None else self._steps(0) * self.epochs

    @property
    def steps_left(self) -> int | None:
        """From here to the end of the pass; None if it never ends."""
        if self.end is None:
            return None
        epoch, seen = self.at
        return self._steps(seen) + self._steps(0) * (self.end - epoch - 1) if epoch < self.end else 0

    @property
    def steps_made(self) -> int:
        """From where this pass began to here."""
        if self.begun is None:
            return 0
        (first, start), (epoch, seen) = self.begun, self.at
        return self._steps(start) + self._steps(0) * (epoch - first) - self._steps(seen)

    def _steps(self, seen: int) -> int:
        return steps_in(self.rows - seen, self.global_batch, self.tail)

    # -- state ---------------------------------------------------------------------------------------------------

    def mark(self) -> None:
        """All batches handed out so far are consumed."""
        self._marked = self.at

    @property
    def consumed(self) -> Place:
        """The place of the last mark; without marks every batch that was handed out counts."""
        return self.at if self._marked is None else self._marked

    def go_to(self, epoch: int, seen: int) -> None:
        """Go on at a place, in the pass that has it."""
        self.over, self._marked, self.begun = False, None, None
        if self.epochs is not None:
            passes = max(0, epoch - self.start) // self.epochs
            self.end = self.start + (passes + 1) * self.epochs
        self.at = (epoch, seen)
