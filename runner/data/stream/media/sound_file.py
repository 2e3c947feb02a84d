"""A file with a sound: its samples as they are in it, from anywhere on, in float32."""

from __future__ import annotations

import logging
import re
from typing import Any, Protocol

import numpy as np

from runner.data.stream.media import codec
from runner.data.stream.media.base import Array
from runner.data.stream.media.containers import damaged

_log = logging.getLogger(__name__)

#: Seconds that are decoded more than needed: frames are whole.
ROOM_S = 0.25
#: Samples a second of a file: fewer would become very many, and more take a resampler as large.
_RATES = 1_000, 1_000_000
#: Kinds in which plain samples have one number of channels throughout, and what the codec of such is called.
_PLAIN_KINDS = frozenset({"wav", "wav without a length", "aiff", "au", "caf"})
_PLAIN = re.compile(r"pcm_([suf]\d+(le|be)?|alaw|mulaw)")
#: What torchcodec says where a range has nothing.
_NOTHING = re.compile("No audio frames were decoded|No samples to decode")


class SoundFile(Protocol):
    """A file that is open.

    Attributes:
        rate: samples a second.
        channels: of the sound.
        begins, seconds: where it begins, and how long it is, by its own word; 0 where it says nothing.
    """

    @property
    def rate(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def begins(self) -> float: ...
    @property
    def seconds(self) -> float: ...

    def read(self, first: int, many: int) -> Array:
        """Samples from one on: float32 [channels, samples], so many or some more, or fewer where the sound ends.

        Raises:
            RuntimeError, ValueError: what torchcodec makes of damaged bytes.
        """
        ...


def open_sound(decoders: Any, data: memoryview, kind: str) -> SoundFile:
    """The best sound of a file. Raises DataError, or what torchcodec raises, where there is none.

    torchcodec makes floats of whole numbers by what the first frame was like, and reads outside of memory if another
    one has fewer channels. So it is left to do so only where that cannot be; else each frame is looked at first.

    Args:
        decoders: the module torchcodec.decoders.
    """
    file = _Ranges(_decoder(decoders, data, kind))
    if not _RATES[0] <= file.rate <= _RATES[1]:
        raise damaged(len(data), f"{file.rate:,} samples a second, of {_RATES[0]:,} to {_RATES[1]:,}")
    is_plain = kind in _PLAIN_KINDS and _PLAIN.fullmatch(file.codec)
    return file if file.is_float or is_plain else _Frames(decoders, data, file)


def _decoder(decoders: Any, data: memoryview, kind: str) -> Any:
    """torchcodec's own for WAVs, of which FFmpeg would read seconds before it gives one; else FFmpeg."""
    if kind == "wav":
        try:
            return decoders.WavDecoder(codec.tensor(data))
        except (RuntimeError, ValueError):
            _log.debug("a WAV is left to FFmpeg", exc_info=True)  # samples of another kind, or a damaged head
    return decoders.AudioDecoder(codec.tensor(data))


class _Ranges:
    """One in which torchcodec finds any place."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder
        metadata = decoder.metadata
        self.rate, self.channels = int(metadata.sample_rate or 0), int(metadata.num_channels or 0)
        self.codec, self.is_float = str(metadata.codec), metadata.sample_format == "fltp"
        self.begins = max(0.0, metadata.begin_stream_seconds_from_header or 0.0)
        self.seconds = max(0.0, metadata.duration_seconds_from_header or 0.0)

    def read(self, first: int, many: int) -> Array:
        """Samples from one on."""
        start = self.begins + first / self.rate
        try:
            found = self._decoder.get_samples_played_in_range(start, start + many / self.rate + ROOM_S)
        except RuntimeError as error:
            if _NOTHING.search(str(error)):
                return np.zeros((self.channels, 0), np.float32)
            raise
        return codec.array(found.data)


class _Frames:
    """One that is decoded from its beginning, frame by frame."""

    def __init__(self, decoders: Any, data: memoryview, like: _Ranges) -> None:
        self._decoders, self._data = decoders, data
        self.rate, self.channels, self.begins, self.seconds = like.rate, like.channels, like.begins, like.seconds

    def read(self, first: int, many: int) -> Array:
        """Samples from one on."""
        demuxer = self._decoders.Demuxer(codec.tensor(self._data), streams="audio")
        decoder = demuxer.streams[0].make_decoder()
        parts: list[Array] = []
        passed = 0
        for packet in demuxer:
            passed = self._keep(decoder.decode(packet), first, passed, parts)
            if passed >= first + many:
                break
        else:
            self._keep(decoder.drain(), first, passed, parts)
        if not parts:
            if first:
                return np.zeros((self.channels, 0), np.float32)
            raise damaged(len(self._data), "no samples")
        return np.concatenate(parts, axis=1)

    def _keep(self, frames: Any, first: int, passed: int, parts: list[Array]) -> int:
        """Add what lies behind the first one that is wanted, and give how many samples have passed."""
        for frame in frames:
            values = codec.array(frame.data)
            if len(values) != self.channels or frame.sample_rate != self.rate:
                said = f"{self.channels} channels at {self.rate:,} become {len(values)} at {frame.sample_rate:,}"
                raise damaged(len(self._data), said)
            if passed + values.shape[1] > first:
                parts.append(_as_float(values[:, max(0, first - passed) :]))
            passed += values.shape[1]
        return passed


def _as_float(values: Array) -> Array:
    """Whole numbers as float32 between -1 and 1."""
    if values.dtype.kind == "f":
        return values.astype(np.float32)
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
    return (values / float(-np.iinfo(values.dtype).min)).astype(np.float32)
