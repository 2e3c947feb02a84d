"""Audio: how the sounds of a column are decoded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from runner.spec.checks import Fields, checked
from runner.spec.images import NULLS

#: Samples a second that may be asked for, and channels.
_RATES, _MOST_CHANNELS = (1_000, 384_000), 8
#: Samples of a crop, all channels counted.
_MOST_SAMPLES = 2**30


@checked
@dataclass(frozen=True)
class Audio:
    """Sounds of a binary column (WAV, FLAC, MP3, Ogg, the sound of an MP4, and what else FFmpeg reads) as float32
    [B, channels, samples] between -1 and 1, where neither the file nor a change of its rate goes beyond.

    A column of structures whose field `bytes` is binary, as Hugging Face's datasets write it, is read too. Of a file
    with several sounds it is the one that FFmpeg takes for the best.

    Args:
        rate: samples a second, to which each sound is brought.
        channels: to which each sound is brought. One is the mean of all, of one each is a copy; anything else is
            mixed by FFmpeg's rules.
        seconds: of each sound. A longer one is cropped, a shorter one filled up with silence at its end, and a column
            ``speech.samples`` of the batch says how many samples are not filled up. None: a list of arrays
            [channels, samples], each as long as its sound.
        crop: where in a longer sound the seconds are: 'start' (also None), 'center', or 'random': each sample is as
            likely to be the first.
        null: 'error', or 'zero': a null is silence, and a column ``speech.valid`` of the batch says which are sounds.

    Raises:
        SpecError: an argument is out of its range.
    """

    rate: int
    channels: int = 1
    seconds: float | None = None
    crop: str | None = None
    null: str = "error"

    def __post_init__(self) -> None:
        fields = Fields("Audio")
        fields.integer("rate", self.rate, *_RATES)
        fields.integer("channels", self.channels, 1, _MOST_CHANNELS)
        if self.seconds is not None:
            fields.number("seconds", self.seconds, 0)
            most = _MOST_SAMPLES // self.channels / self.rate
            if math.isinf(self.seconds) or not 1 <= self.samples * self.channels <= _MOST_SAMPLES:  # type: ignore[operator]
                raise fields.fail("seconds", self.seconds, f"from one sample up to {most:,.0f} seconds, or None")
        if self.crop is not None:
            fields.one_of("crop", self.crop, ("start", "center", "random"))
            if self.seconds is None:
                raise fields.fail("crop", self.crop, "with a number of seconds", "say seconds=, or leave crop out")
        fields.one_of("null", self.null, NULLS)

    @property
    def samples(self) -> int | None:
        """Of each channel; None where sounds differ."""
        return None if self.seconds is None else round(self.seconds * self.rate)

    @property
    def counted(self) -> str:
        """The end of the name of the column that says how much of a sound is not filled up; "" where none is."""
        return "" if self.seconds is None else ".samples"
