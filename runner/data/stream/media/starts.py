"""Where in a sound or a clip it is begun: a pure function of the seed, the epoch and the position."""

from __future__ import annotations

from collections.abc import Iterator

from runner.data.stream.media.base import Place, key_of, numbers

#: Raised whenever the same seed, epoch and position would begin elsewhere than before.
START_VERSION = 1


def chances(place: Place, many: int = 1) -> Iterator[float]:
    """Numbers from 0 up to 1, without 1; others than those of windows."""
    key = key_of(f"runner starts {START_VERSION}: seed {place.seed}, epoch {place.epoch}")
    return numbers(key, place.position, many)


def begin(start: str, room: int, place: Place) -> int:
    """Where to begin, from 0 up to the room that there is.

    Args:
        start: 'random' (each as likely), 'center', or anything else for the beginning.
        room: samples or frames by which it may begin later.
    """
    if start == "random":
        return min(int(next(chances(place)) * (room + 1)), room)
    return room // 2 if start == "center" else 0
