"""The clips of a column."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from runner.data.limits import beyond, limits, shown_bytes
from runner.data.stream.media import codec
from runner.data.stream.media.base import Array, Place
from runner.data.stream.media.containers import UNSEEKABLE, check_end, damaged, kind_of
from runner.data.stream.media.cut import cut
from runner.data.stream.media.starts import begin, chances
from runner.data.stream.media.windows import Window, Windows
from runner.errors import DataError
from runner.spec.video import Video

#: Bytes of frames that are decoded at once, in the size of the video.
_TOGETHER_BYTES = 32 << 20
#: Channels of a frame as it is decoded.
_DECODED = 3
#: Fewer seconds are no time between two frames.
_MOMENT_S = 1e-6


class Clips:
    """Decodes a column that a `Video` declares. Raises MissingPackage where torchcodec or FFmpeg are not there."""

    what, blank, dtype = "clip", "black", np.uint8

    def __init__(self, video: Video) -> None:
        self._video, self._image, self._class = video, video.image, codec.decoders().VideoDecoder
        self.counted, self._most = video.counted, limits().frame_pixels
        size = self._image.shape
        self.shape = None if size is None or video.frames is None else (video.frames, *size, self._image.channels)

    def into(self, data: Any, place: Place, target: Array) -> int:
        """A clip [frames, height, width, channels]; its last frame is repeated where there are not enough.

        Returns:
            How many frames are not repeated.
        """
        return self._decoded(data, place, target)[1]

    def whole(self, data: Any, place: Place) -> tuple[Array, int]:
        """A clip whose length, height and width are its own, where they are not declared."""
        return self._decoded(data, place, None)

    def nothing(self) -> Array:
        """No frames, or pixels."""
        frames = self._video.frames or 0
        return np.zeros((frames, *(self._image.shape or (0, 0)), self._image.channels), np.uint8)

    def _decoded(self, data: Any, place: Place, target: Array | None) -> tuple[Array, int]:
        view = memoryview(data).cast("B")
        try:
            kind = kind_of(view)
            if kind in UNSEEKABLE:
                raise damaged(len(view), "a transport stream, in which no frame is found by its number")
            check_end(view, kind)
            clip = _Clip(self._class, view, self._most)
            if target is None:
                target = np.empty(clip.shape(self._video), np.uint8)
            wanted = clip.wanted(self._video, place)
            window = Windows(self._image, place.seed, place.epoch).window(clip.height, clip.width, place.position)
            clip.fill(target, wanted, window)
            return target, len(wanted)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # whatever a library makes of hostile bytes
            raise codec.refused(len(view), error) from error


class _Clip:
    """One that is open.

    Attributes:
        height, width: of its frames.
    """

    def __init__(self, decoder: Any, data: memoryview, most: int) -> None:
        self._length = len(data)
        self._decoder = decoder(codec.tensor(data), dimension_order="NHWC", num_ffmpeg_threads=1)
        metadata = self._decoder.metadata
        self.height, self.width = int(metadata.height or 0), int(metadata.width or 0)
        if self.height < 1 or self.width < 1 or not metadata.num_frames:
            raise damaged(self._length, "no frames")
        if self.height * self.width > most:
            raise beyond("frame_pixels", f"a video of {self.width:,} by {self.height:,} pixels")
        self._frames = int(metadata.num_frames)
        self._begin = float(metadata.begin_stream_seconds)
        self._seconds = max(
            0.0, float(metadata.end_stream_seconds) - self._begin - _MOMENT_S
        )  # the end is no time of it

    def wanted(self, video: Video, place: Place) -> list[int] | list[float]:
        """The numbers of the frames that are taken, or with `fps` the times at which they are shown; in order."""
        if video.fps is not None:
            return self._times(video, video.fps, place)
        if video.every is None:
            return self._spread(video, place)
        many = video.frames or self._frames
        first = begin(video.start, max(0, self._frames - ((many - 1) * video.every + 1)), place)
        return list(range(first, min(self._frames, first + many * video.every), video.every))

    def _spread(self, video: Video, place: Place) -> list[int]:
        many, random = int(video.frames or 0), video.start == "random"
        if self._frames <= many:
            return list(range(self._frames))
        shares = list(chances(place, many)) if random else [0.5 if video.start == "center" else 0.0] * many
        edges = [number * self._frames // many for number in range(many + 1)]
        return [low + int(share * (high - low)) for low, high, share in zip(edges, edges[1:], shares, strict=False)]

    def _times(self, video: Video, fps: float, place: Place) -> list[float]:
        there = self._there(video)
        many = min(video.frames or there, there)
        room = self._seconds - ((video.frames or there) - 1) / fps
        share = {"random": next(chances(place)), "center": 0.5}.get(video.start, 0.0)
        first = self._begin + max(0.0, room) * share
        return [first + number / fps for number in range(many)]

    def shape(self, video: Video) -> tuple[int, ...]:
        """[frames, height, width, channels] of a clip whose length, or size, is its own.

        Raises:
            DataError: it would be larger than may be in memory.
        """
        height, width = video.image.shape or (self.height, self.width)
        frames = video.frames or self._there(video)
        shape = (frames, height, width, video.image.channels)
        if math.prod(shape) > limits().at_once(self._length):
            found = f"a clip of {frames:,} frames of {width:,} by {height:,} pixels"
            raise beyond("at_once_bytes", f"{found}, {shown_bytes(math.prod(shape))}, from {self._length:,} bytes")
        return shape

    def _there(self, video: Video) -> int:
        """Frames that there are, so far apart."""
        if video.fps is not None:
            return math.floor(self._seconds * video.fps) + 1
        return -(-self._frames // int(video.every or 1))

    def fill(self, target: Array, wanted: list[int] | list[float], window: Window) -> None:
        """Decode frames into the target, the last of them again and again."""
        together = max(1, _TOGETHER_BYTES // (self.height * self.width * _DECODED))
        by_time = isinstance(wanted[0], float)
        read = self._decoder.get_frames_played_at if by_time else self._decoder.get_frames_at
        for first in range(0, len(wanted), together):
            frames = codec.array(read(wanted[first : first + together]).data)
            for number, frame in enumerate(frames, first):
                cut(_in_mode(frame, target.shape[-1]), window, target[number])
        target[len(wanted) :] = target[len(wanted) - 1]


def _in_mode(frame: Array, channels: int) -> Array:
    """A frame with so many channels; one of them is grey, by Pillow's weights."""
    if channels == _DECODED:
        return frame
    from PIL import Image as pillow

    return np.asarray(pillow.fromarray(frame).convert("L"))[:, :, None]
