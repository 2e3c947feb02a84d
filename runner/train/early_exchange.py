"""An exchange of metrics before the one that ranks have agreed on, where steps have become slow since.

Ranks agree at each exchange on the step of the next one, from the speed of the last steps. If steps become a hundred
times slower then, that step is a hundred times further away. So rank 0 asks, after a while, for an earlier one. The
others are at other steps, and none may pass the new one before it has heard of it. So each answers with a step that it
will not pass unheard, and the latest of those is the new one. Threads ask and answer, whatever the functions do
meanwhile; a function waits only where it comes to its own step before the answer has.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runner.train.store_values import Store

#: Seconds after an exchange from which on rank 0 asks for an earlier next one.
LATE_S = 2.0
#: Looks of a rank's thread that it may take until all have heard.
_LOOKS = 4
#: Seconds after which a function that waits says so.
_SAY_S = 30.0
_ABSENT = "-"


class Early:
    """One rank's part in it. A function calls `agreed` and `reached`, its thread `look`."""

    def __init__(self, rank: int, world_size: int) -> None:
        self._rank, self._world_size = rank, world_size
        self._heard = threading.Condition()  # guards what follows
        self._round = 0  # exchanges so far
        self._since = time.monotonic()
        self._step = self._next = 0
        self._gate: int | None = None  # not to be passed before the new step is known
        # of the thread beside it alone:
        self._answered = -1  # the last round that this rank was asked about
        self._looked_at = 0  # the step at the last look
        self._keys: list[str] = []  # of the last time that rank 0 asked

    # -- the function's thread -----------------------------------------------------------------------------------

    def agreed(self, step: int, next_step: int) -> None:
        """There was an exchange at `step`, and ranks have agreed on the next one."""
        with self._heard:
            self._round += 1
            self._since = time.monotonic()
            self._step, self._next, self._gate = step, next_step, None

    def reached(self, step: int) -> bool:
        """Whether there is an exchange at this step. The same on every rank."""
        with self._heard:
            self._step = step
            waiting = time.monotonic()
            while self._gate is not None and self._gate <= step < self._next:
                if not self._heard.wait(_SAY_S) and self._gate is not None:
                    waited = time.monotonic() - waiting
                    print(f"runner: waiting for {waited:.0f} s for a rank to say at which step it can meet", flush=True)
            return step >= self._next

    # -- the thread beside it ------------------------------------------------------------------------------------

    def look(self, store: Store) -> None:
        """Ask, answer or hear, whatever is next. To be called now and then, with a connection to the gang's store."""
        with self._heard:
            number, made = self._round, self._step - self._looked_at
            self._looked_at = self._step
            late = self._next - self._step > 1 and time.monotonic() - self._since > LATE_S
        if self._answered != number:
            if self._rank == 0 and late:
                self._ask(store, number, 1 + made * _LOOKS)
            margin = _read(store, f"early/{number}")
            if margin is None:
                return
            self._answer(store, number, margin)
        if self._rank == 0:
            self._decide(store, number)
        new = _read(store, f"early/{number}/new")
        if new is not None:
            self._hear(number, new)

    def give_up(self) -> None:
        """The gang is ending: nobody will be heard any more."""
        with self._heard:
            self._gate = None
            self._heard.notify_all()

    def _ask(self, store: Store, number: int, margin: int) -> None:
        for key in self._keys:
            store.delete_key(key)
        names = ("", "/new", *(f"/{rank}" for rank in range(self._world_size)))
        self._keys = [f"early/{number}{name}" for name in names]
        store.set(f"early/{number}", str(margin))

    def _answer(self, store: Store, number: int, margin: int) -> None:
        with self._heard:
            if self._round != number:
                return
            self._answered = number
            self._gate = gate = min(self._step + margin, self._next)
        store.set(f"early/{number}/{self._rank}", str(gate))

    def _decide(self, store: Store, number: int) -> None:
        gates = [_read(store, f"early/{number}/{rank}") for rank in range(self._world_size)]
        known = [gate for gate in gates if gate is not None]
        if len(known) == self._world_size:
            store.set(f"early/{number}/new", str(max(known)))

    def _hear(self, number: int, new: int) -> None:
        with self._heard:
            if self._round == number:
                self._next, self._gate = new, None
                self._heard.notify_all()


def _read(store: Store, key: str) -> int | None:
    """A number, if it is there; `get` would wait for it."""
    found = store.compare_set(key, _ABSENT, _ABSENT).decode()
    return None if found == _ABSENT else int(found)
