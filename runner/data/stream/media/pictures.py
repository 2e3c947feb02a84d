"""The pictures of a column."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from runner.data.stream.media.base import Array, Place
from runner.data.stream.media.picture import Decoder
from runner.data.stream.media.windows import Windows
from runner.spec.images import Image


class Pictures:
    """Decodes a column that an `Image` declares. Imports simplejpeg and Pillow."""

    what, blank, counted, dtype = "picture", "black", "", np.uint8

    def __init__(self, image: Image) -> None:
        self._image, self._decoder = image, Decoder(image)
        self.shape = None if image.shape is None else (*image.shape, image.channels)

    def into(self, data: Any, place: Place, target: Array) -> int:
        """A window, in the size of the target: uint8 [height, width, channels]."""
        self._decoder.into(data, self._choose(place), target)
        return 1

    def whole(self, data: Any, place: Place) -> tuple[Array, int]:
        """A picture in its own size."""
        return self._decoder.whole(data, self._choose(place)), 1

    def nothing(self) -> Array:
        """No pixels."""
        return np.zeros((0, 0, self._image.channels), np.uint8)

    def _choose(self, place: Place) -> Any:
        return partial(Windows(self._image, place.seed, place.epoch).window, position=place.position)
