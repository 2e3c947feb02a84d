"""What the columns of a stream can be declared as, to be decoded."""

from __future__ import annotations

from typing import TypeAlias

from runner.spec.audio import Audio
from runner.spec.images import Image
from runner.spec.video import Video

Declared: TypeAlias = Image | Audio | Video
