"""Sounds brought to another rate by FFmpeg's resampler, piece by piece as if they were whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from runner.data.stream.media.base import Array

#: Samples of the slower of the two rates on each side that have a part in one.
_REACH = 64
#: Times what has a part in a sample that a sound is made as long as, with silence.
_SHORTEST = 2


def reach(source: int, target: int) -> tuple[int, int]:
    """How many samples before and behind a piece have a part in it. The first is a whole number of target samples."""
    if source == target:
        return 0, 0
    step, wanted = source // math.gcd(source, target), math.ceil(_REACH * max(1.0, source / target))
    return step * math.ceil(wanted / step), wanted


def resampled(decoders: Any, values: Array, source: int, target: int, channels: int | None = None) -> Array:
    """Samples [channels, n] at another rate, from the first one on: as many as take the same time.

    Args:
        decoders: the module torchcodec.decoders.
        channels: to which they are mixed by FFmpeg's rules; None: as many as there are.
    """
    if not values.shape[1] or (source == target and channels is None):
        return values
    import torch

    long = math.ceil(values.shape[1] * target / source)
    missing = _SHORTEST * sum(reach(source, target)) - values.shape[1]  # of fewer the resampler gives back nothing
    enough = values if missing <= 0 else np.pad(values, ((0, 0), (0, missing)))
    tensor = torch.from_numpy(np.ascontiguousarray(enough))
    converter = decoders.AudioConverter(sample_rate=target, num_channels=channels)
    given = decoders.RawAudioSamples(tensor, source, 0.0, tensor.shape[1] / source)
    parts = converter.convert(given).data, converter.drain().data
    return np.concatenate([part.numpy() for part in parts], axis=1)[:, :long]
