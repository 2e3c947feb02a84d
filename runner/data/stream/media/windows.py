"""Which part of a picture is taken: a pure function of its size, the seed, the epoch and the position."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

from runner.data.stream.media.base import key_of, numbers
from runner.spec.images import Image

#: Raised whenever the same seed, epoch and position would give another window than before.
WINDOW_VERSION = 1
#: Windows that are tried before the middle is taken, of a random scale and ratio.
_TRIES = 10
_RATIO = (3 / 4, 4 / 3)
#: Numbers that a picture may need: whether it is mirrored, and its place; or for each try area, ratio and place.
_FEW, _MANY = 3, 1 + 4 * _TRIES


@dataclass(frozen=True)
class Window:
    """A part of a picture, in its pixels, which need not be whole.

    Args:
        flip: whether it is mirrored, left to right.
    """

    top: float
    left: float
    height: float
    width: float
    flip: bool = False


class Windows:
    """Windows of the pictures of one epoch.

    The numbers of a position are those of Philox at the counter of the position, so none depends on another picture.

    Args:
        seed: of the stream.
    """

    def __init__(self, image: Image, seed: int, epoch: int) -> None:
        self._image = image
        self._key = key_of(f"runner windows {WINDOW_VERSION}: seed {seed}, epoch {epoch}")
        self._is_random = image.crop == "random" or image.flip > 0

    def window(self, height: int, width: int, position: int) -> Window:
        """Of a picture of this size, at this position of the epoch."""
        image = self._image
        drawn = self._numbers(position) if self._is_random else iter((1.0,))
        flip = next(drawn) < image.flip
        if image.crop is None or image.shape is None:
            return Window(0, 0, height, width, flip)
        if image.crop == "random" and image.scale is not None:
            return _scaled(image, height, width, drawn, flip)
        tall, wide = _largest(image.shape, height, width)
        if image.crop == "center":
            side = math.sqrt(1.0 if image.scale is None else cast(float, image.scale))
            tall, wide = tall * side, wide * side
            return Window((height - tall) / 2, (width - wide) / 2, tall, wide, flip)
        if height >= image.shape[0] and width >= image.shape[1]:
            tall, wide = image.shape
        return Window(_place(height - tall, next(drawn)), _place(width - wide, next(drawn)), tall, wide, flip)

    def _numbers(self, position: int) -> Iterator[float]:
        return numbers(self._key, position, _FEW if self._image.scale is None else _MANY)


def _largest(shape: tuple[int, int], height: int, width: int) -> tuple[float, float]:
    """The largest window of a shape in a picture."""
    by = min(height / shape[0], width / shape[1])
    return min(shape[0] * by, height), min(shape[1] * by, width)


def _place(room: float, number: float) -> int:
    """A whole number from 0 up to the room that there is, each as likely."""
    return min(int(number * (int(room) + 1)), int(room))


def _scaled(image: Image, height: int, width: int, drawn: Iterator[float], flip: bool) -> Window:
    """A window of a random area and ratio (Szegedy et al., "Going deeper with convolutions", 2015)."""
    low, high = cast(tuple[float, float], image.scale)
    narrow, broad = map(math.log, image.ratio or _RATIO)
    for _ in range(_TRIES):
        area = height * width * (low + (high - low) * next(drawn))
        ratio = math.exp(narrow + (broad - narrow) * next(drawn))
        tall, wide = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        down, right = next(drawn), next(drawn)
        if 0 < tall <= height and 0 < wide <= width:
            return Window(_place(height - tall, down), _place(width - wide, right), tall, wide, flip)
    ratio = min(max(width / height, math.exp(narrow)), math.exp(broad))
    tall, wide = min(height, max(1, round(width / ratio))), min(width, max(1, round(height * ratio)))
    return Window((height - tall) // 2, (width - wide) // 2, tall, wide, flip)
