"""The sounds of a column."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from runner.data.limits import beyond, limits, shown_bytes
from runner.data.stream.media import codec
from runner.data.stream.media.base import Array, Place
from runner.data.stream.media.containers import MEASURED, PAGED, check_end, damaged, kind_of
from runner.data.stream.media.resampling import reach, resampled
from runner.data.stream.media.sound_file import ROOM_S, SoundFile, open_sound
from runner.data.stream.media.starts import begin
from runner.errors import DataError
from runner.spec.audio import Audio

#: Bytes of a sample.
_WIDTH = 4


class Sounds:
    """Decodes a column that an `Audio` declares. Raises MissingPackage where torchcodec or FFmpeg are not there."""

    what, blank, dtype = "sound", "silence", np.float32

    def __init__(self, audio: Audio) -> None:
        self._audio, self._decoders = audio, codec.decoders()
        self.counted = audio.counted
        self.shape = None if audio.samples is None else (audio.channels, audio.samples)

    def into(self, data: Any, place: Place, target: Array) -> int:
        """A sound [channels, samples], from its start or where the place says, and silence behind it.

        Returns:
            How many samples are of the sound.
        """
        found = self._decoded(data, place)
        many = min(found.shape[1], target.shape[1])
        target[:, :many] = found[:, :many]
        target[:, many:] = 0
        return many

    def whole(self, data: Any, place: Place) -> tuple[Array, int]:
        """A sound as long as it is: [channels, samples]."""
        found = self._decoded(data, place)
        return found, found.shape[1]

    def nothing(self) -> Array:
        """No samples."""
        return np.zeros((self._audio.channels, 0), np.float32)

    def _decoded(self, data: Any, place: Place) -> Array:
        """The samples that are wanted, or some more."""
        view = memoryview(data).cast("B")
        try:
            kind = kind_of(view)
            check_end(view, kind)
            sound = _Sound(open_sound(self._decoders, view, kind), kind, len(view), self._audio)
            found = self._brought(*sound.part(place), sound.rate)
        except (DataError, MemoryError):
            raise
        except Exception as error:  # whatever a library makes of hostile bytes
            raise codec.refused(len(view), error) from error
        if not found.shape[1]:
            raise damaged(len(view), "no samples")
        return found

    def _brought(self, values: Array, before: int, rate: int) -> Array:
        """Samples in the channels and at the rate that are wanted, without so many at their beginning."""
        wanted, mixed = self._audio.channels, None
        if wanted == 1:
            values = values.mean(axis=0, keepdims=True, dtype=np.float32)
        elif len(values) not in (1, wanted):
            mixed = wanted
        made = resampled(self._decoders, values, rate, self._audio.rate, mixed)
        made = made[:, before * self._audio.rate // rate :]
        return made if len(made) == wanted else np.repeat(made, wanted, axis=0)


class _Sound:
    """A file, and the part of it that is wanted. What is counted here are samples of the file.

    Attributes:
        rate: samples a second of the file.
    """

    def __init__(self, file: SoundFile, kind: str, length: int, audio: Audio) -> None:
        self._file, self._kind, self._length, self._audio = file, kind, length, audio
        self.rate = file.rate
        self._told = round(file.seconds * file.rate) if kind in MEASURED | PAGED else 0
        self._wanted = None if audio.samples is None else math.ceil(audio.samples * file.rate / audio.rate)

    def part(self, place: Place) -> tuple[Array, int]:
        """Samples [channels, n], and how many of them are before the part that is wanted. Raises DataError where the
        file has lost its end, or has more than may be in memory."""
        crop = self._audio.crop or "start"
        if self._wanted is None:
            found = self._all()
            self._check(found.shape[1], 0, self._told)
            return found, 0
        if crop == "start":
            return self._from(0, self._wanted)
        if self._told:
            at = begin(crop, max(0, self._told - self._wanted), place)
            found, before = self._from(at, self._wanted)
            there = found.shape[1] - before
            if not self._is_short(there, at, self._wanted):
                back = min(at, self._wanted - there)  # by as much as the file has said too much
                return (found, before) if back <= 0 else self._from(at - back, self._wanted)
        found = self._all()
        at = begin(crop, max(0, found.shape[1] - self._wanted), place)
        before = self._before(at)
        return found[:, at - before : at + self._wanted + reach(self.rate, self._audio.rate)[1]], before

    def _before(self, at: int) -> int:
        """How many samples before one have a part in it, in steps that are whole samples of both rates."""
        before, step = reach(self.rate, self._audio.rate)[0], self.rate // math.gcd(self.rate, self._audio.rate)
        return min(before, at // step * step)

    def _from(self, at: int, wanted: int) -> tuple[Array, int]:
        """So many samples from one on and what has a part in them, and how many are before it."""
        before, behind = self._before(at), reach(self.rate, self._audio.rate)[1]
        found = self._file.read(at - before, before + wanted + behind)[:, : before + wanted + behind]
        self._check(found.shape[1] - before, at, wanted)
        return found, min(before, found.shape[1])

    def _all(self) -> Array:
        """Every sample. Raises DataError where there are more than may be in memory."""
        longer = max(1.0, self._audio.rate / self.rate, self._audio.channels / max(1, self._file.channels))
        most = int(limits().at_once(self._length) / (_WIDTH * max(1, self._file.channels) * longer))
        found = self._file.read(0, most + 1)
        if found.shape[1] > most:
            size = shown_bytes(int(found.shape[1] * len(found) * _WIDTH * longer))
            raise beyond("at_once_bytes", f"a sound of {size} or more, from {self._length:,} bytes")
        return found

    def _is_short(self, found: int, at: int, wanted: int) -> bool:
        """Whether the sound ended before its file says."""
        return bool(self._told) and found < min(self._told - at, wanted) - ROOM_S * self.rate

    def _check(self, found: int, at: int, wanted: int) -> None:
        if self._kind in MEASURED and self._is_short(found, at, wanted):
            ends, told = (at + found) / self.rate, self._told / self.rate
            raise damaged(self._length, f"it ends after {ends:.2f} of {told:.2f} seconds")
