"""JPEGs to RGB crops of 224 by 224, with the fastest decoder that the environment has."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from benchmarks.streaming.touch import Array

SIDE = 224


def crops(values: Any) -> Array:
    """uint8 [rows, 224, 224, 3]: each image decoded whole, and a random part of it."""
    read = decoder()
    rng = np.random.default_rng()
    found = []
    for value in each(values):
        image = read(value)
        top, left = (int(rng.integers(0, side - SIDE + 1)) for side in image.shape[:2])
        found.append(image[top : top + SIDE, left : left + SIDE])
    return np.stack(found)


def each(values: Any) -> Iterable[Any]:
    """The values of a list or an Arrow array one by one, as bytes or views of them."""
    if isinstance(values, (list, tuple, np.ndarray)):
        return values
    if hasattr(values, "chunks"):
        return [view for chunk in values.chunks for view in each(chunk)]
    offsets = np.frombuffer(values.buffers()[1], np.int32)[values.offset : values.offset + len(values) + 1]
    whole = memoryview(values.buffers()[2])
    return [whole[begin:end] for begin, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)]


@functools.cache
def decoder() -> Callable[[Any], Array]:
    """simplejpeg's, torchvision's or pillow's: bytes to uint8 [height, width, 3]."""
    for make in (_simplejpeg, _torchvision, _pillow):
        try:
            return make()
        except ImportError:
            continue
    raise ImportError("none of simplejpeg, torchvision and pillow is installed")


def _simplejpeg() -> Callable[[Any], Array]:
    import simplejpeg

    return lambda value: simplejpeg.decode_jpeg(np.frombuffer(value, np.uint8), "RGB")


def _torchvision() -> Callable[[Any], Array]:
    import torch
    from torchvision.io import ImageReadMode, decode_jpeg

    def read(value: Any) -> Array:
        data = torch.frombuffer(bytearray(value), dtype=torch.uint8)
        return decode_jpeg(data, mode=ImageReadMode.RGB).permute(1, 2, 0).numpy()

    return read


def _pillow() -> Callable[[Any], Array]:
    import io

    from PIL import Image

    return lambda value: np.asarray(Image.open(io.BytesIO(value)).convert("RGB"))
