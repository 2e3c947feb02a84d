"""Video: how the clips of a column are decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.spec.checks import Fields, checked
from runner.spec.images import NULLS, Image, check_pixels

#: Frames that are asked for, and how far they are apart.
_MOST_FRAMES, _FARTHEST = 65_535, 1_000_000
_MOST_FPS = 1_000


@checked
@dataclass(frozen=True)
class Video:
    """Frames of the videos of a binary column (MP4, WebM, AVI and what else FFmpeg reads) as uint8
    [B, frames, height, width, channels].

    ``batch["clip"].permute(0, 1, 4, 2, 3)`` is the same with the channels before the pixels. A column of structures
    whose field `bytes` is binary, as Hugging Face's datasets write it, is read too. Frames are turned as the file says,
    and the shape of a pixel is taken for square. What is said of pixels is the same for all frames of a clip.

    Args:
        mode: 'RGB' gives 3 channels, 'L' (grey) one.
        size: height and width, or one number for both. None: a list of arrays [frames, height, width, channels], each
            as large as its video.
        frames: of each clip. Where a video has fewer, its last one is repeated, and a column ``clip.frames`` of the
            batch says how many are not. None: as many as there are, in a list of arrays.
        every: one frame in so many. None: `frames` frames spread over the whole video, one of each part of it.
        fps: frames a second of the video's own time, instead of `every`: those that are shown at these times.
        start: where the clip begins, in a video that is longer: 'first', 'center' or 'random'. With ``every=None`` it
            is which frame of each part is taken.
        crop: 'random': a window at a random place, 'center': the largest window of that shape in the middle, None: all
            of the frame; then brought to the size. As of `Image`.
        scale, ratio: of the crop, as of `Image`.
        flip: how likely a clip is mirrored, left to right.
        null: 'error', or 'zero': a null is black, and a column ``clip.valid`` of the batch says which are clips.

    Raises:
        SpecError: an argument is out of its range.
    """

    mode: str = "RGB"
    size: int | tuple[int, int] | None = None
    frames: int | None = None
    every: int | None = 1
    fps: float | None = None
    start: str = "first"
    crop: str | None = None
    scale: float | tuple[float, float] | None = None
    ratio: tuple[float, float] | None = None
    flip: float = 0.0
    null: str = "error"

    def __post_init__(self) -> None:
        fields = Fields("Video")
        check_pixels(fields, self)
        if self.frames is not None:
            fields.integer("frames", self.frames, 1, _MOST_FRAMES)
        if self.every is not None:
            fields.integer("every", self.every, 1, _FARTHEST)
        elif self.frames is None:
            raise fields.fail("every", self.every, "with a number of frames to spread", "say frames=")
        self._check_fps(fields)
        fields.one_of("start", self.start, ("first", "center", "random"))
        if self.start != "first" and self.frames is None:
            raise fields.fail("start", self.start, "with a number of frames", "say frames=, or leave start out")
        fields.one_of("null", self.null, NULLS)

    def _check_fps(self, fields: Fields) -> None:
        if self.fps is None:
            return
        fields.number("fps", self.fps, 0, _MOST_FPS)
        if self.fps < 1 / _FARTHEST or math.isnan(self.fps):
            raise fields.fail("fps", self.fps, f"a number above 0, up to {_MOST_FPS:,}")
        if self.every != 1:
            raise fields.fail("fps", self.fps, "either fps or every", "leave one of them out")

    @property
    def image(self) -> Image:
        """What is made of each frame."""
        return Image(self.mode, self.size, self.crop, self.scale, self.ratio, self.flip, self.null)

    @property
    def counted(self) -> str:
        """The end of the name of the column that says how many frames are not repeated; "" where none is."""
        return "" if self.frames is None else ".frames"
