"""Sounds and videos: what may be declared, what is refused, and where crops begin.

What decodes them runs in a process of its own, which finds an FFmpeg (decoded_media.py).
"""

from __future__ import annotations

import importlib.util
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner import Audio, Image, Stream, Video
from runner.data.stream.media import containers, starts
from runner.data.stream.media.base import Place
from runner.data.stream.media.resampling import reach
from runner.errors import DataError, MissingPackage, SpecError
from tests import ROOT
from tests.unit.data.media_kit import library_path, write

#: Seconds that the tests of decoding get.
_LONGEST_S = 500


def decoded(folder: Path, *arguments: str) -> None:
    """Run the tests of decoding with an FFmpeg; skip where PyAV or torchcodec is not installed, in CI fail."""
    missing = [name for name in ("av", "torchcodec") if importlib.util.find_spec(name) is None]
    path = "" if missing else library_path(folder)
    if not path:
        why = f"no FFmpeg for torchcodec: {' and '.join(missing) or 'the libraries of PyAV'} not installed"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(why)
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    done = subprocess.run(
        [*command, "tests/unit/data/decoded_media.py"],
        cwd=ROOT,
        env={**os.environ, "LD_LIBRARY_PATH": path},
        capture_output=True,
        text=True,
        timeout=_LONGEST_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


@pytest.mark.timeout(_LONGEST_S)
def test_what_is_decoded(tmp_path: Path) -> None:
    """Real sounds and videos are decoded as decoded_media.py says."""
    decoded(tmp_path)


@pytest.mark.soak
@pytest.mark.timeout(3 * _LONGEST_S)
def test_very_many_damaged_files(tmp_path: Path) -> None:
    """Thousands of damaged files end no process."""
    decoded(tmp_path, "-m", "soak")


# -- declarations ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "rate"),
        ({"rate": 16_000.0}, "rate=16000.0"),
        ({"rate": 10}, "from 1000 to 384000"),
        ({"rate": 16_000, "channels": 0}, "channels=0"),
        ({"rate": 16_000, "channels": True}, "channels=True"),
        ({"rate": 16_000, "seconds": 0}, "seconds=0.*one sample"),
        ({"rate": 16_000, "seconds": -1}, "seconds=-1"),
        ({"rate": 16_000, "seconds": float("nan")}, "seconds=nan"),
        ({"rate": 16_000, "seconds": float("inf")}, "seconds=inf"),
        ({"rate": 16_000, "seconds": 1e9}, "up to 67,109 seconds"),
        ({"rate": 16_000, "crop": "random"}, "crop='random'.*seconds"),
        ({"rate": 16_000, "seconds": 1, "crop": "middle"}, "crop='middle'"),
        ({"rate": 16_000, "null": "skip"}, "null='skip'"),
        ({"rate": 16_000, "second": 1}, "unknown field 'second'.*seconds"),
    ],
)
def test_what_audio_may_be(said: dict[str, Any], words: str) -> None:
    """What cannot be is refused with what is allowed."""
    with pytest.raises(SpecError, match=f"(?s){words}"):
        Audio(**said)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"mode": "BGR"}, "Video: mode='BGR'"),
        ({"size": 0}, "size=0"),
        ({"crop": "random"}, "crop='random'.*size"),
        ({"size": 8, "scale": 0.5}, "scale=0.5.*crop"),
        ({"flip": 2}, "flip=2"),
        ({"frames": 0}, "frames=0"),
        ({"frames": 4, "every": 0}, "every=0"),
        ({"every": None}, "every=None.*frames"),
        ({"frames": 4, "fps": 0}, "fps=0"),
        ({"frames": 4, "fps": float("nan")}, "fps=nan"),
        ({"frames": 4, "fps": 8, "every": 2}, "either fps or every"),
        ({"frames": 4, "fps": 8, "every": None}, "either fps or every"),
        ({"start": "random"}, "start='random'.*frames"),
        ({"frames": 4, "start": "last"}, "start='last'"),
        ({"null": None}, "null=None"),
        ({"frame": 4}, "unknown field 'frame'.*frames"),
    ],
)
def test_what_a_video_may_be(said: dict[str, Any], words: str) -> None:
    """What cannot be is refused with what is allowed, in the words of Image where it is the same."""
    with pytest.raises(SpecError, match=f"(?s){words}"):
        Video(**said)


def test_declarations_travel() -> None:
    """They are values: equal, hashable, and the same behind a pickle."""
    for one in (
        Audio(16_000, 2, 1.5, "random"),
        Video("L", 8, 4, fps=2.5, start="center", crop="random", scale=(0.5, 1)),
    ):
        assert pickle.loads(pickle.dumps(one)) == one
        assert hash(one)
    assert Video(size=8).image == Image(size=8)
    assert (Audio(16_000, seconds=0.1).samples, Audio(16_000).samples) == (1600, None)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"decode": {"media": "mp3"}}, "runner.Audio or runner.Video"),
        ({"decode": [Audio(16_000)]}, "runner.Audio or runner.Video"),
        ({"decode": {"media": Audio(16_000)}, "as_": "arrow"}, "as_='arrow'"),
    ],
)
def test_what_can_be_decoded(tmp_path: Path, said: dict[str, Any], words: str) -> None:
    """What is no declaration is refused where the stream is made."""
    with pytest.raises(SpecError, match=f"(?s){words}"):
        Stream(write(tmp_path, [b"x"]), 1, **said)


def test_without_torchcodec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where torchcodec is not installed, the stream says so when it is made, and what to install."""
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(MissingPackage, match=r"decode=\) needs torchcodec.*pip install 'lake-runner\[media\]'"):
        Stream(write(tmp_path, [b"x"]), 1, decode={"media": Audio(16_000)})


def test_without_ffmpeg(tmp_path: Path) -> None:
    """Where torchcodec finds no FFmpeg, the stream says so when it is made, and where to get it."""
    torchcodec = pytest.importorskip("torchcodec")
    if torchcodec.ffmpeg_major_version is not None:
        pytest.skip("torchcodec finds an FFmpeg here")
    with pytest.raises(MissingPackage, match=r"FFmpeg's shared libraries.*apt install ffmpeg.*LD_LIBRARY_PATH"):
        Stream(write(tmp_path, [b"x"]), 1, decode={"media": Video()})


# -- where it begins ---------------------------------------------------------------------------------------------------


def test_starts_are_a_function_of_the_place() -> None:
    """The same seed, epoch and position begin at the same sample, others elsewhere, and all samples come up."""
    found = [starts.begin("random", 9, Place(3, 0, position)) for position in range(300)]
    assert found == [starts.begin("random", 9, Place(3, 0, position)) for position in range(300)]
    assert set(found) == set(range(10))
    assert found != [starts.begin("random", 9, Place(3, 1, position)) for position in range(300)]
    assert found != [starts.begin("random", 9, Place(4, 0, position)) for position in range(300)]
    assert found[:8] == [4, 4, 3, 5, 7, 8, 3, 1]  # what resumed runs had
    assert (starts.begin("center", 9, Place(0, 0, 0)), starts.begin("start", 9, Place(0, 0, 0))) == (4, 0)


@pytest.mark.parametrize("rates", [(48_000, 16_000), (44_100, 16_000), (8_000, 16_000), (44_101, 16_000)])
def test_what_is_resampled_besides(rates: tuple[int, int]) -> None:
    """What is decoded before a piece is a whole number of samples of both rates, so nothing is shifted."""
    source, target = rates
    before, behind = reach(source, target)
    assert before * target % source == 0
    assert min(before, behind) >= 64


# -- kinds of files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n",
        b"ID3\x04\x00\x00\x00\x00\x00\x04abcd#EXTM3U\n#EXTINF:1,\nhttp://localhost:1/a.ts\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"v=0\nc=IN IP4 127.0.0.1\nm=audio 5004 RTP/AVP 0\n",
        b'<?xml version="1.0"?><MPD profiles="urn:mpeg:dash:profile:full:2011"/>',
        b"\x89PNG\r\n\x1a\n",
        b"RIFF\x00\x00\x00\x00WEBP",
        b"RIFX\x00\x00\x00\x00WAVEfmt ",
        b"\x00" * 4096,
        b"some words",
        b"",
    ],
)
def test_what_is_no_media(text: bytes) -> None:
    """Playlists, scripts, pictures and nothing are refused before FFmpeg sees them, which opens what such name."""
    with pytest.raises(DataError, match="no whole sound or video"):
        containers.kind_of(memoryview(text))


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "wav"),
        (b"ID3\x04\x00\x00\x00\x00\x00\x04abcd\x00\x00\xff\xfb\x90\x00", "mp3"),
        (b"\xff\xfb\x90\x00" + b"\x00" * 20 + b"Xing", "mp3 with a count"),
        (b"\xff\xf1\x50\x80", "adts"),
        (b"\x00\x00\x00\x20ftypisom", "mp4"),
        (b"\x1a\x45\xdf\xa3\x9f", "matroska"),
        ((b"G" + b"\x00" * 187) * 3, "ts"),
        (b"\x00" * 7 + b"\xff\xfb\x90\x00", "mp3"),
    ],
)
def test_kinds(head: bytes, kind: str) -> None:
    """A file is known by its first bytes, behind tags."""
    assert containers.kind_of(memoryview(head)) == kind
