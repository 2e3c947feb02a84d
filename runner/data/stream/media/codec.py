"""torchcodec, with the FFmpeg that it finds; imported where something is decoded, and nowhere else."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from runner.code import extras
from runner.data.stream.media.base import Array
from runner.data.stream.media.containers import damaged
from runner.errors import DataError, MissingPackage

#: What torchcodec puts before its words: the function, and the line of its source.
_SOURCE = re.compile(r"^\w+, \S+\.(?:cpp|h):\d+, ")
_UNLOADED = re.compile(r"OSError: (.+)")
#: What is missing wherever FFmpeg is not of this version.
_OTHER_VERSION = "libavutil."
_LONGEST_WORDS = 200
#: What torchcodec says of a file without a sound, or a video, and what is said instead.
_NONE, _NONE_WORDS = "stream is unknown and there is no specified stream", "there is none in it"


def decoders(what: str = "this") -> Any:
    """The module torchcodec.decoders.

    Args:
        what: needs it, in words that begin the error.

    Raises:
        MissingPackage: it is not installed, or finds no FFmpeg.
    """
    extras.need("media", what)
    try:
        import torchcodec
        from torchcodec import decoders as found

        if getattr(torchcodec, "ffmpeg_major_version", None) is None:
            found.AudioDecoder(b"-")  # it says what is missing
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingPackage(
            f"{what} needs FFmpeg's shared libraries (of 4 to 9: libavcodec, libavformat and those beside them), which "
            f"torchcodec could not load{_why(str(error))}: apt install ffmpeg, conda install ffmpeg, or name their "
            "folder in LD_LIBRARY_PATH"
        ) from error
    return found


def tensor(data: memoryview) -> Any:
    """A copy of bytes as a tensor, which torchcodec may keep."""
    import torch

    return torch.from_numpy(np.array(np.frombuffer(data, np.uint8)))


def array(values: Any) -> Array:
    """A tensor as numpy's array, without a copy."""
    return np.asarray(values.numpy())


def refused(length: int, error: Exception) -> DataError:
    """The error for a file of so many bytes, from whatever was made of it."""
    words = _SOURCE.sub("", " ".join(str(error).split())) or type(error).__name__
    words = _NONE_WORDS if _NONE in words else words
    return damaged(length, words[:_LONGEST_WORDS])


def _why(words: str) -> str:
    """What else could not be loaded: that of the version which is there."""
    found = [one for one in _UNLOADED.findall(words) if not one.startswith(("Could not load", _OTHER_VERSION))]
    return f" ({found[0]})" if found else ""
