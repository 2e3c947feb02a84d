"""Real sounds and videos, written by the FFmpeg that PyAV's wheel brings, and that FFmpeg for torchcodec."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

_PLAIN = re.compile(r"^(lib(?:av|sw)\w+)-[0-9a-f]{8}(\.so\.\d+)")
#: Of each kind of sound the container, the codec and the format of samples.
SOUNDS = {
    "wav": ("wav", "pcm_s16le", "s16"),
    "flac": ("flac", "flac", "s16"),
    "mp3": ("mp3", "libmp3lame", "fltp"),
    "opus": ("ogg", "libopus", "s16"),
    "m4a": ("mp4", "aac", "fltp"),
    "adts": ("adts", "aac", "fltp"),
    "webm": ("webm", "libopus", "s16"),
    "aiff": ("aiff", "pcm_s16be", "s16"),
}
#: Of each kind of video the container, the codec and the format of pixels.
VIDEOS = {
    "mp4": ("mp4", "libx264", "yuv420p"),
    "webm": ("webm", "libvpx-vp9", "yuv420p"),
    "avi": ("avi", "mpeg4", "yuv420p"),
    "mkv": ("matroska", "libx264", "yuv420p"),
    "ts": ("mpegts", "libx264", "yuv420p"),
    "gif": ("gif", "gif", "rgb8"),
}


def library_path(folder: Path) -> str:
    """What LD_LIBRARY_PATH must be so that torchcodec finds PyAV's FFmpeg; "" where that is not installed.

    The wheel's libraries have names of their own, so the usual ones are links to them.
    """
    found = importlib.util.find_spec("av")
    libraries = Path(str(found.origin)).parent.with_name("av.libs") if found else Path("/nowhere")
    for library in libraries.glob("lib*"):
        named = _PLAIN.match(library.name)
        if named and not (link := folder / (named[1] + named[2])).exists():
            link.symlink_to(library)
    return f"{folder}:{libraries}" if any(folder.iterdir()) else ""


def wave(seconds: float, rate: int, channels: int = 1) -> np.ndarray[Any, Any]:
    """Tones that grow louder from silence to half of what there is: float32 [channels, samples]."""
    time = np.arange(round(seconds * rate)) / rate
    tones = [np.sin(2 * np.pi * 220 * (1 + one) * time) for one in range(channels)]
    return (np.stack(tones) * 0.5 * time / seconds).astype(np.float32)


def sound(kind: str, seconds: float = 2.0, rate: int = 48_000, channels: int = 1) -> bytes:
    """A file of that kind with a wave in it."""
    import av

    container, codec, form = SOUNDS[kind]
    target = io.BytesIO()
    with av.open(target, "w", format=container) as file:
        layout = "mono" if channels == 1 else "stereo"
        stream = file.add_stream(codec, rate=rate, layout=layout)
        values = wave(seconds, rate, channels)
        frame = av.AudioFrame.from_ndarray(values, format="fltp", layout=layout)
        frame.sample_rate = rate
        resampler = av.AudioResampler(format=form, layout=layout, rate=rate, frame_size=stream.frame_size or 1024)
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return target.getvalue()


def level(number: int) -> int:
    """How bright the frame of this number is."""
    return (number * 4) % 256


def video(
    kind: str = "mp4", frames: int = 30, height: int = 48, width: int = 64, fps: int = 25, **options: str
) -> bytes:
    """A file of that kind. The right half of each frame is as bright as `level` says, the left one as 255 less it."""
    import av

    container, codec, form = VIDEOS[kind]
    target = io.BytesIO()
    with av.open(target, "w", format=container, options=options) as file:
        stream = file.add_stream(codec, rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, form
        stream.codec_context.gop_size = 10
        for number in range(frames):
            pixels = np.full((height, width, 3), level(number), np.uint8)
            pixels[:, : width // 2] = 255 - level(number)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    return target.getvalue()


def write(folder: Path, values: list[Any], kind: pa.DataType | None = None, rows: int = 8) -> str:
    """A Parquet file of ids and media, with row groups of so many rows."""
    folder.mkdir(exist_ok=True)
    table = pa.table({"id": range(len(values)), "media": pa.array(values, kind or pa.binary())})
    pq.write_table(table, folder / "a.parquet", row_group_size=rows)
    return str(folder)
