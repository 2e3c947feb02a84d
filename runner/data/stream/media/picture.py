"""One picture: from its bytes to the pixels of a window, by simplejpeg (libjpeg-turbo) if it is a JPEG, else Pillow."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from runner.data.limits import beyond, limits
from runner.data.stream.media.base import Array
from runner.data.stream.media.cut import cut
from runner.data.stream.media.windows import Window
from runner.errors import DataError
from runner.spec.images import Image

#: Which part of a picture of this height and width is wanted.
Choose = Callable[[int, int], Window]

#: The largest picture whose memory is used again.
_KEPT_BYTES = 64 << 20
_JPEG = b"\xff\xd8\xff"
#: A JPEG is decoded at one of these parts of its height and width, where that is still as large as needed.
_PARTS = (8, 4, 2)
#: What Pillow may take the other pictures for: what it decodes by itself, in memory.
_KINDS = ("PNG", "WEBP", "JPEG", "GIF", "BMP", "TIFF", "JPEG2000", "AVIF", "PPM")
#: Colour spaces that libjpeg-turbo brings to RGB as everybody does.
_COLOURS = frozenset({"YCbCr", "RGB", "Gray"})


class Decoder:
    """Decodes pictures; for several threads at once. Imports simplejpeg and Pillow."""

    def __init__(self, image: Image) -> None:
        import simplejpeg
        from PIL import Image as pillow
        from PIL import UnidentifiedImageError

        self._unknown = UnidentifiedImageError
        self._image, self._simplejpeg, self._pillow = image, simplejpeg, pillow
        self._scratch, self._most = threading.local(), limits().pixels
        self._name = "RGB" if image.mode == "RGB" else "GRAY"

    def into(self, data: Any, choose: Choose, target: Array) -> None:
        """Write the window of a picture to `target`, uint8 [height, width, channels].

        Args:
            data: a buffer of bytes.

        Raises:
            DataError: it is no picture, a damaged one, or one that is larger than may be.
        """
        pixels, window = self._pixels(data, choose, (target.shape[0], target.shape[1]))
        cut(pixels, window, target)

    def whole(self, data: Any, choose: Choose) -> Array:
        """A picture in its own size: uint8 [height, width, channels]; of the window it counts whether it is mirrored.

        Raises:
            DataError: as of `into`.
        """
        pixels, window = self._pixels(data, choose, None)
        return (pixels[:, ::-1] if window.flip else pixels).copy()

    # -- bytes to pixels -----------------------------------------------------------------------------------------

    def _pixels(self, data: Any, choose: Choose, size: tuple[int, int] | None) -> tuple[Array, Window]:
        """Pixels, which are good until this thread's next picture, and the window in them.

        Args:
            size: of what is made of the window; None: it is wanted as it is.
        """
        try:
            if bytes(data[:3]) == _JPEG:
                found = self._jpeg(data, choose, size)
                if found is not None:
                    return found
            return self._other(data, choose)
        except (DataError, MemoryError):
            raise
        except self._unknown as error:
            raise _damaged(len(data), "of an unknown kind") from error
        except Exception as error:  # whatever a library makes of hostile bytes
            raise _damaged(len(data), " ".join(str(error).split()) or type(error).__name__) from error

    def _jpeg(self, data: Any, choose: Choose, size: tuple[int, int] | None) -> tuple[Array, Window] | None:
        """None where the colours are Pillow's to convert."""
        height, width, colours, _ = self._simplejpeg.decode_jpeg_header(data)
        self._check(height, width)
        if colours not in _COLOURS:
            return None
        window = choose(height, width)
        part = 1
        if size is not None:
            part = next((n for n in _PARTS if window.height >= n * size[0] and window.width >= n * size[1]), 1)
        tall, wide = -(-height // part), -(-width // part)
        least = {"min_height": tall, "min_width": wide} if part > 1 else {}
        pixels = self._simplejpeg.decode_jpeg(
            data, self._name, buffer=self._buffer(tall * wide * self._image.channels), **least
        )
        if part > 1:
            down, across = pixels.shape[0] / height, pixels.shape[1] / width
            window = Window(
                window.top * down, window.left * across, window.height * down, window.width * across, window.flip
            )
        return pixels, window

    def _check(self, height: int, width: int) -> None:
        """Raises DataError where a picture has more pixels than may be, before there is memory for them."""
        if height * width > self._most:
            raise beyond("pixels", f"a picture of {width:,} by {height:,} pixels")

    def _buffer(self, size: int) -> Array:
        """Memory of this thread's, used again: to touch new memory costs as much as a copy."""
        if size > _KEPT_BYTES:
            return np.empty(size, np.uint8)
        own: Array | None = getattr(self._scratch, "buffer", None)
        if own is None or len(own) < size:
            own = self._scratch.buffer = np.empty(size, np.uint8)
        return own

    def _other(self, data: Any, choose: Choose) -> tuple[Array, Window]:
        with self._pillow.open(io.BytesIO(data), formats=_KINDS) as opened:
            self._check(opened.height, opened.width)
            pixels = np.asarray(_plain(opened, self._image.mode, self._pillow))
        pixels = pixels.reshape(*pixels.shape[:2], self._image.channels)
        return pixels, choose(*pixels.shape[:2])


def _plain(opened: Any, mode: str, pillow: Any) -> Any:
    """A picture of Pillow's in the mode that is wanted. Raises DataError where its values do not fit in 8 bits."""
    if opened.mode.startswith("I;16"):
        opened = pillow.fromarray((np.asarray(opened) >> 8).astype(np.uint8))
    elif opened.mode in ("I", "F"):
        raise DataError(
            f"a picture of mode {opened.mode!r}, whose values have 32 bits",
            allowed="pictures of 8 or 16 bits",
            todo="convert the column in a Prep",
        )
    return opened if opened.mode == mode else opened.convert(mode)


def _damaged(length: int, said: str) -> DataError:
    return DataError(
        f"{length:,} bytes that are no whole picture ({said})",
        allowed=f"pictures of the kinds {', '.join(_KINDS)}",
        todo="leave the row out with filter=, or repair it in a Prep",
    )
