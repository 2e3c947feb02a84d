"""Image: how the pictures of a column are decoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runner.spec.checks import Fields, checked

#: The longest side of a picture that is asked for.
_LONGEST = 65_535
#: What becomes of a null.
NULLS = ("error", "zero")


@checked
@dataclass(frozen=True)
class Image:
    """Pictures of a binary column (JPEG, PNG and what else Pillow reads) as uint8 [B, height, width, channels].

    ``batch["image"].permute(0, 3, 1, 2)`` is the same with the channels first. A column of structures whose field
    `bytes` is binary, as Hugging Face's datasets write it, is read too. Transparency is left out, and so is the
    orientation that EXIF tells of.

    Args:
        mode: 'RGB' gives 3 channels, 'L' (grey) one.
        size: height and width, or one number for both. None: a list of arrays [height, width, channels], each as large
            as its picture.
        crop: 'random': a window at a random place, of `size` pixels where `scale` is None (of a picture that is smaller
            the largest window of that shape, made larger). 'center': the largest window of the shape of `size` in the
            middle. None: the whole picture, whatever its shape is. What has another size than `size` is then brought
            to it, bilinear with each pixel that counts (as Pillow's BILINEAR).
        scale: of a random crop, the least and the largest share of the picture's area; of a center crop one number,
            the share of the largest window's area.
        ratio: of a random crop with `scale`, the least and the largest width by height; (3/4, 4/3) where it is None.
        flip: how likely a picture is mirrored, left to right.
        null: 'error', or 'zero': a null is a black picture, and a column ``image.valid`` of the batch says which are
            pictures.

    Raises:
        SpecError: an argument is out of its range.
    """

    mode: str = "RGB"
    size: int | tuple[int, int] | None = None
    crop: str | None = None
    scale: float | tuple[float, float] | None = None
    ratio: tuple[float, float] | None = None
    flip: float = 0.0
    null: str = "error"

    def __post_init__(self) -> None:
        fields = Fields("Image")
        check_pixels(fields, self)
        fields.one_of("null", self.null, NULLS)

    @property
    def shape(self) -> tuple[int, int] | None:
        """Height and width of each picture; None where they differ."""
        return self.size  # type: ignore[return-value]

    @property
    def channels(self) -> int:
        """Of a pixel."""
        return 3 if self.mode == "RGB" else 1

    @property
    def counted(self) -> str:
        """The end of the name of a column that says how much of a value is not filled up: there is none."""
        return ""


def check_pixels(fields: Fields, value: Any) -> None:
    """Check what is said of the pixels of a frozen value (mode, size, crop, scale, ratio, flip), and bring it to one
    form. Raises SpecError."""
    fields.one_of("mode", value.mode, ("RGB", "L"))
    if value.size is not None:
        object.__setattr__(value, "size", _size(fields, value.size))
    if value.crop is not None:
        fields.one_of("crop", value.crop, ("center", "random"))
        if value.size is None:
            raise fields.fail("crop", value.crop, "with a size", "say size=, or leave crop out")
    _check_scale(fields, value)
    if value.ratio is not None:
        if value.crop != "random" or value.scale is None:
            raise fields.fail("ratio", value.ratio, "of crop='random' with a scale", "say scale= too")
        object.__setattr__(value, "ratio", _pair(fields, "ratio", value.ratio, math.inf))
    fields.number("flip", value.flip, 0, 1)


def _check_scale(fields: Fields, value: Any) -> None:
    if value.scale is None:
        return
    if value.crop == "random":
        object.__setattr__(value, "scale", _pair(fields, "scale", value.scale, 1))
    elif value.crop == "center":
        if not _is_number(value.scale) or not 0 < value.scale <= 1:
            raise fields.fail("scale", value.scale, "of a center crop a number above 0, up to 1")
    else:
        raise fields.fail("scale", value.scale, "with a crop", "say crop= too")


def _size(fields: Fields, value: Any) -> tuple[int, int]:
    sides = (value, value) if not isinstance(value, Sequence) or isinstance(value, str) else tuple(value)
    if len(sides) != 2:
        raise fields.fail("size", value, "one number, (height, width), or None")
    for side in sides:
        fields.integer("size", side, 1, _LONGEST)
    return sides


def _pair(fields: Fields, field: str, value: Any, most: float) -> tuple[float, float]:
    is_pair = isinstance(value, Sequence) and len(value) == 2 and all(map(_is_number, value))
    if not is_pair or not 0 < value[0] <= value[1] <= most or math.isinf(value[1]):
        up_to = "" if math.isinf(most) else f", up to {most:g}"
        raise fields.fail(field, value, f"(least, largest): numbers above 0{up_to}")
    return float(value[0]), float(value[1])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
