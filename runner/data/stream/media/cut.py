"""Pixels to the pixels of a window, by Pillow where their number changes."""

from __future__ import annotations

import math

import numpy as np

from runner.data.stream.media.base import Array
from runner.data.stream.media.windows import Window


def cut(pixels: Array, window: Window, target: Array) -> None:
    """Write the window, brought to the size of the target. Both are uint8 [height, width, channels]."""
    from PIL import Image as pillow

    top, left = math.floor(window.top), math.floor(window.left)
    bottom, right = math.ceil(window.top + window.height), math.ceil(window.left + window.width)
    part = pixels[top : min(bottom, len(pixels)), left : min(right, pixels.shape[1])]
    is_whole = (window.top, window.left, window.height, window.width) == (top, left, bottom - top, right - left)
    if not is_whole or part.shape != target.shape:
        down, across = window.top - top, window.left - left
        box = (
            across,
            down,
            min(across + window.width, part.shape[1]),
            min(down + window.height, part.shape[0]),
        )
        picture = pillow.fromarray(np.ascontiguousarray(part if part.shape[2] > 1 else part[:, :, 0]))
        made = picture.resize((target.shape[1], target.shape[0]), pillow.Resampling.BILINEAR, box=box)
        part = np.asarray(made).reshape(target.shape)
    target[...] = part[:, ::-1] if window.flip else part
