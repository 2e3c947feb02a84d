"""Sounds and videos that torchcodec decodes, with an FFmpeg that test_media.py lets it find."""

from __future__ import annotations

import http.server
import io
import pickle
import struct
import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pytest
import torch
from torch.utils.data import DataLoader

from runner import Audio, Stream, Video
from runner.data.stream.media.base import Place
from runner.data.stream.media.clips import Clips
from runner.data.stream.media.sounds import Sounds
from runner.data.stream.media.windows import Windows
from runner.errors import DataError, SpecError
from runner.train.feeding.helpers import Helpers
from runner.train.feeding.window import Window
from tests.unit.data.media_kit import SOUNDS, VIDEOS, level, sound, video, wave, write
from tests.unit.train.test_feeding import Decoding

ROWS = 24
HERE = Place(0, 0, 0)
Array = np.ndarray[Any, Any]


def heard(data: bytes, audio: Audio, place: Place = HERE) -> tuple[Array, int]:
    """A sound, decoded by itself, and its count."""
    decoder = Sounds(audio)
    if decoder.shape is None:
        return decoder.whole(memoryview(data), place)
    found = np.full(decoder.shape, 7, np.float32)
    return found, decoder.into(memoryview(data), place, found)


def watched(data: bytes, said: Video, place: Place = HERE) -> tuple[Array, int]:
    """A clip, decoded by itself, and its count."""
    decoder = Clips(said)
    if decoder.shape is None:
        return decoder.whole(memoryview(data), place)
    found = np.full(decoder.shape, 7, np.uint8)
    return found, decoder.into(memoryview(data), place, found)


def as_pyav_does(data: bytes) -> Array:
    """All samples of a file, by PyAV: [channels, samples]."""
    with av.open(io.BytesIO(data)) as file:
        change = av.AudioResampler(format="fltp")
        frames = [made for frame in file.decode(audio=0) for made in change.resample(frame)]
    return np.concatenate([frame.to_ndarray() for frame in frames], axis=1)


def shown(clip: Array) -> list[int]:
    """How bright the right half of each frame is."""
    return [round(float(frame[2:-2, -frame.shape[1] // 4 :].mean())) for frame in clip]


def near(found: list[int], numbers: list[int]) -> bool:
    """Whether these are the frames of these numbers."""
    return len(found) == len(numbers) and all(
        abs(one - level(number)) < 3 for one, number in zip(found, numbers, strict=True)
    )


# -- sounds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", SOUNDS)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_are_ffmpegs(kind: str, channels: int) -> None:
    """At the rate of the file the samples are those that FFmpeg gives another program."""
    data = sound(kind, 1.0, 48_000, channels)
    found, count = heard(data, Audio(48_000, channels))
    expected = as_pyav_does(data)
    assert found.dtype == np.float32
    assert found.shape[0] == channels
    assert count == found.shape[1]
    shift = expected.shape[1] - count  # PyAV gives what an encoder puts before the first sample
    assert 0 <= shift < 2400
    assert np.abs(found - expected[:, shift:]).max() < 1e-4 or np.abs(found - expected[:, :count]).max() < 1e-4


@pytest.mark.parametrize(
    ("kind", "source", "target"),
    [
        (kind, *rates)
        for kind in ("wav", "flac", "mp3", "opus", "aiff", "webm")
        for rates in ((48_000, 16_000), (48_000, 44_100), (24_000, 48_000))
        if (kind, rates[0]) != ("webm", 24_000)  # Opus at 24 kHz begins elsewhere there, by FFmpeg itself
    ],
)
def test_another_rate(kind: str, source: int, target: int) -> None:
    """Brought to another rate a sound is as long as it was, and the same wave."""
    found, count = heard(sound(kind, 1.0, source), Audio(target))
    expected = wave(1.0, target)
    assert 0 <= target - count <= 2 or count == target
    many = min(count, target) - 300
    assert np.abs(found[:, :many] - expected[:, :many]).max() < (0.005 if kind in ("wav", "flac", "aiff") else 0.05)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3"])
@pytest.mark.parametrize("rate", [48_000, 16_000, 11_025])
def test_crops_are_parts_of_the_whole(kind: str, rate: int) -> None:
    """A crop has the samples of the whole sound, to the sample, wherever it begins, and all places come up."""
    data = sound(kind, 2.0, 48_000)
    whole, _ = heard(data, Audio(rate))
    places = set()
    for position in range(12):
        found, count = heard(data, Audio(rate, seconds=0.25, crop="random"), Place(1, 0, position))
        length = round(0.25 * rate)
        assert (found.shape, count) == ((1, length), length)
        windows = np.lib.stride_tricks.sliding_window_view(whole[0], length)
        apart = np.abs(windows[:, :: length // 16] - found[0, :: length // 16]).max(axis=1)
        at = int(apart.argmin())
        exact = kind != "mp3" and rate != 11_025 and rate != 16_000  # where both rates have a sample in common
        assert np.abs(whole[0, at : at + length] - found[0]).max() < (1e-6 if exact else 0.05)
        places.add(at)
    assert len(places) > 9


def test_a_crop_in_the_middle_and_at_the_start() -> None:
    """'center' leaves as much out on either side, 'start' and nothing take the first seconds."""
    data = sound("wav", 2.0, 16_000)
    whole, _ = heard(data, Audio(16_000))
    assert np.array_equal(heard(data, Audio(16_000, seconds=0.5, crop="center"))[0], whole[:, 12_000:20_000])
    for crop in ("start", None):
        assert np.array_equal(heard(data, Audio(16_000, seconds=0.5, crop=crop))[0], whole[:, :8000])


@pytest.mark.parametrize("crop", ["start", "center", "random"])
@pytest.mark.parametrize("kind", ["wav", "mp3", "adts"])
def test_short_sounds(kind: str, crop: str) -> None:
    """A sound that is shorter is filled up with silence at its end, and counted."""
    data = sound(kind, 0.5, 48_000)
    whole, _ = heard(data, Audio(16_000))
    found, count = heard(data, Audio(16_000, seconds=2.0, crop=crop))
    assert count == whole.shape[1]
    assert np.array_equal(found[:, :count], whole)
    assert not found[:, count:].any()


@pytest.mark.parametrize("samples", [1, 5, 30, 70])
def test_very_short_sounds(samples: int) -> None:
    """A sound of a few samples is as long at another rate, though its resampler needs more."""
    data = sound("wav", samples / 8000, 8000)
    found, count = heard(data, Audio(16_000))
    assert count == found.shape[1] == 2 * samples
    assert heard(data, Audio(16_000, seconds=0.1))[1] == 2 * samples


def test_channels() -> None:
    """One channel is the mean of all, so it is never louder; several of one are copies."""
    data = sound("wav", 0.5, 16_000, 2)
    both, _ = heard(data, Audio(16_000, 2))
    assert np.allclose(heard(data, Audio(16_000))[0], both.mean(axis=0, keepdims=True), atol=1e-6)
    one = sound("wav", 0.5, 16_000, 1)
    assert np.array_equal(heard(one, Audio(16_000, 3))[0], np.repeat(heard(one, Audio(16_000))[0], 3, axis=0))
    assert heard(data, Audio(8_000, 6, 0.25))[0].shape == (6, 2000)


def test_the_sound_of_a_video() -> None:
    """A column of videos can be heard; one that is silent says so."""
    with pytest.raises(DataError, match="there is none in it"):
        heard(video(), Audio(16_000))
    with pytest.raises(DataError, match="there is none in it"):
        watched(sound("mp3"), Video())
    both = io.BytesIO()
    with av.open(both, "w", format="mp4") as file:
        pictures, voice = file.add_stream("libx264", rate=25), file.add_stream("aac", rate=48_000, layout="mono")
        pictures.height, pictures.width, pictures.pix_fmt = 48, 64, "yuv420p"
        for number in range(25):
            file.mux(pictures.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), level(number), np.uint8))))
        file.mux(pictures.encode(None))
        frame = av.AudioFrame.from_ndarray(wave(1.0, 48_000), format="fltp", layout="mono")
        frame.sample_rate = 48_000
        for part in av.AudioResampler("fltp", "mono", 48_000, frame_size=1024).resample(frame):
            file.mux(voice.encode(part))
        file.mux(voice.encode(None))
    assert abs(heard(both.getvalue(), Audio(16_000))[1] - 16_000) < 1000
    assert near(shown(watched(both.getvalue(), Video("RGB", (48, 64), 5, every=4))[0]), [0, 4, 8, 12, 16])


# -- videos ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [kind for kind in VIDEOS if kind not in ("ts", "gif", "avi")])
def test_frames(kind: str) -> None:
    """The frames are those of the numbers that the declaration names, in each kind of file."""
    data = video(kind, 30)
    for said, numbers in (
        (Video(), [*range(30)]),
        (Video(frames=4), [0, 1, 2, 3]),
        (Video(frames=4, every=5), [0, 5, 10, 15]),
        (Video(frames=4, every=5, start="center"), [7, 12, 17, 22]),
        (Video(frames=3, every=None), [0, 10, 20]),
        (Video(frames=3, every=None, start="center"), [5, 15, 25]),
        (Video(frames=6, fps=5), [0, 5, 10, 15, 20, 25]),
        (Video(frames=2, fps=12.5, start="center"), [13, 15]),
        (Video(every=10), [0, 10, 20]),
        (Video(fps=2.5), [0, 10, 20]),
    ):
        found, count = watched(data, said)
        assert found.shape == (len(numbers), 48, 64, 3), said
        assert count == len(numbers)
        assert near(shown(found), numbers), (said, shown(found))


def test_random_frames() -> None:
    """Random starts depend on the place alone, and reach the first and the last frame; spread ones keep their parts."""
    data, starts = video("mp4", 12), set()
    for position in range(60):
        found, _ = watched(data, Video("L", (48, 64), 4, every=3, start="random"), Place(0, 0, position))
        starts.add(round(shown(found)[0] / 4))
    assert starts == {0, 1, 2}
    for said in (Video(frames=4, every=None, start="random"), Video(frames=4, fps=20, start="random")):
        seen = [shown(watched(data, said, Place(0, 0, position))[0]) for position in range(8)]
        assert seen == [shown(watched(data, said, Place(0, 0, position))[0]) for position in range(8)]
        assert len(set(map(tuple, seen))) > 4
        assert all(one == sorted(one) for one in seen)


@pytest.mark.parametrize(
    "said", [Video(size=(48, 64), frames=20), Video(frames=20, every=None), Video(frames=20, fps=25, start="random")]
)
def test_short_videos(said: Video) -> None:
    """Of a video with fewer frames the last one is repeated, and those that are not are counted."""
    found, count = watched(video("mp4", 6), said)
    assert (count, found.shape) == (6, (20, 48, 64, 3))
    assert near(shown(found), [0, 1, 2, 3, 4, *[5] * 15])


def test_windows_are_those_of_pictures() -> None:
    """The crop of a clip is that of a picture at its place, the same in all frames, and mirrored with it."""
    data, said = video("mkv", 8), Video("RGB", (24, 20), 8, crop="random", flip=0.5)
    whole, _ = watched(data, Video("RGB", frames=8))
    flips = set()
    for position in range(8):
        window = Windows(said.image, 5, 2).window(48, 64, position)
        top, left = int(window.top), int(window.left)
        part = whole[:, top : top + 24, left : left + 20]
        found, _ = watched(data, said, Place(5, 2, position))
        assert np.array_equal(found, part[:, :, ::-1] if window.flip else part)
        flips.add(window.flip)
    assert flips == {True, False}


def test_sizes_and_modes() -> None:
    """Without a size, or without a number of frames, each clip has its own; grey has one channel."""
    data = video("mp4", 10)
    for said, shape in (
        (Video("L", 16, 4), (4, 16, 16, 1)),
        (Video("RGB", (16, 24)), (10, 16, 24, 3)),
        (Video("L", frames=12), (12, 48, 64, 1)),
        (Video("RGB", 16, 4, crop="center", scale=0.5), (4, 16, 16, 3)),
    ):
        assert watched(data, said)[0].shape == shape


# -- in a stream -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Sounds of half a second to one and a half, of several kinds, rates and channels."""
    kinds = ("wav", "flac", "mp3", "opus")
    values = [sound(kinds[n % 4], 0.5 + n / ROWS, (48_000, 24_000)[n % 2], 1 + n % 3 % 2) for n in range(ROWS)]
    return write(tmp_path_factory.mktemp("sounds"), values)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Videos of 8 to 31 frames, of several kinds."""
    kinds = ("mp4", "webm", "mkv")
    return write(tmp_path_factory.mktemp("videos"), [video(kinds[n % 3], 8 + n, 48, 64 + 2 * n) for n in range(ROWS)])


HEARD = Audio(16_000, seconds=0.4, crop="random")
WATCHED = Video("RGB", 24, 4, every=2, start="random", crop="random", scale=(0.3, 1.0), flip=0.5)


def by_position(streams: list[Any]) -> dict[int, tuple[int, bytes, int]]:
    """Position -> id, values and count."""
    found = {}
    for stream in streams:
        for batch in stream:
            (counts,) = (batch[name] for name in batch if name.startswith("media."))
            for at, number, value, count in zip(batch.positions, batch["id"], batch["media"], counts, strict=True):
                found[int(at)] = int(number), value.numpy().tobytes(), int(count)
    return found


@pytest.fixture(scope="module", params=["sounds", "videos"])
def case(request: pytest.FixtureRequest, folder: str, videos: str) -> tuple[str, Any, dict[int, Any]]:
    """A folder, what it is decoded as, and what two epochs are for one rank and one thread."""
    url, said = (folder, HEARD) if request.param == "sounds" else (videos, WATCHED)
    return url, said, by_position([Stream(url, 6, seed=3, epochs=2, threads=1, decode={"media": said})])


@pytest.mark.parametrize("world", [1, 2, 3])
def test_any_world_size(case: tuple[str, Any, dict[int, Any]], world: int) -> None:
    """Each position has the same values for any number of ranks and threads."""
    url, said, expected = case
    arguments = {"seed": 3, "epochs": 2, "world_size": world, "threads": 1 + world, "decode": {"media": said}}
    assert by_position([Stream(url, 6 // world, rank=rank, **arguments) for rank in range(world)]) == expected


def test_resume(case: tuple[str, Any, dict[int, Any]]) -> None:
    """Behind a state come the same values, also of one that decoded nothing, with another batch, and pickled."""
    url, said, expected = case
    plain = Stream(url, 6, seed=3, epochs=2)
    for _ in range(3):
        next(plain)
    stream = Stream(url, 3, seed=3, epochs=2, decode={"media": said})
    stream.load_state_dict(plain.state_dict())
    next(stream)
    again = pickle.loads(pickle.dumps(stream))
    assert by_position([again]) == {at: expected[at] for at in range(21, 2 * ROWS)}


def test_epochs_differ(case: tuple[str, Any, dict[int, Any]]) -> None:
    """A row has another crop in the next epoch."""
    first = {number: value for at, (number, value, _) in case[2].items() if at < ROWS}
    second = {number: value for at, (number, value, _) in case[2].items() if at >= ROWS}
    assert first.keys() == second.keys()
    assert sum(first[number] == second[number] for number in first) <= ROWS // 4


def test_workers_of_a_loader(case: tuple[str, Any, dict[int, Any]]) -> None:
    """The workers of a DataLoader, forked from a process that has decoded, give the same values."""
    url, said, expected = case
    stream = Stream(url, 6, seed=3, epochs=2, decode={"media": said})
    assert by_position([DataLoader(stream, batch_size=None, num_workers=2)]) == expected


def test_helpers_decode_as_a_stream_does(case: tuple[str, Any, dict[int, Any]]) -> None:
    """What helpers of a transform decode is what the stream would have given."""
    url, said, _ = case
    with Stream(url, 6, seed=3, decode={"media": said}, as_="numpy") as plain:
        expected = [(batch["id"].tolist(), batch["media"].tolist()) for batch in plain]
    helpers = Helpers(Decoding(2), "Train 'fit'")
    stream = Stream(url, 6, seed=3, decode={"media": said}, as_="numpy")
    stream.pass_through(Window(helpers.submit, 4, stream.hand_over_decoding()))
    with stream:
        assert [(batch["id"].tolist(), batch["media"].tolist()) for batch in stream] == expected
    helpers.close()


def test_batches(folder: str, videos: str) -> None:
    """A batch has tensors, or arrays, of one shape where a length is declared, and lists where none is."""
    batch = next(Stream(folder, 6, decode={"media": HEARD}))
    assert (batch["media"].shape, batch["media"].dtype) == ((6, 1, 6400), torch.float32)
    assert (batch["media.samples"].tolist(), batch["media.samples"].dtype) == ([6400] * 6, torch.int64)
    batch = next(Stream(folder, 6, decode={"media": Audio(16_000)}))
    assert all(isinstance(one, torch.Tensor) and one.shape[0] == 1 for one in batch["media"])
    batch = next(Stream(videos, 6, decode={"media": WATCHED}, as_="numpy"))
    assert (batch["media"].shape, batch["media"].dtype) == ((6, 4, 24, 24, 3), np.uint8)
    assert batch["media.frames"].tolist() == [4] * 6
    batch = next(Stream(videos, 6, decode={"media": Video(frames=2)}))
    assert len({one.shape for one in batch["media"]}) > 1


def test_nulls_and_structures(tmp_path: Path) -> None:
    """A null is an error, or silence or black that the batch tells of; a structure's `bytes` are read."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    for name, data, audio, what in (
        ("a", sound("wav", 0.5), Audio(8_000, seconds=0.2), "sound"),
        ("b", video(), Video("RGB", 8, 2), "clip"),
    ):
        url = write(tmp_path / name, [{"bytes": data, "path": "x"}, None], kind)
        with pytest.raises(DataError, match=rf"a\.parquet \(unit 0, row 1\): column 'media': a null where a {what}"):
            next(Stream(url, 2, shuffle=False, decode={"media": audio}))
        said = type(audio)(**{**audio.__dict__, "null": "zero"})
        (batch,) = Stream(url, 2, shuffle=False, decode={"media": said})
        assert batch["media.valid"].tolist() == [True, False]
        assert batch["media"][0].any()
        assert not batch["media"][1].any()
        assert batch["media" + said.counted].tolist()[1] == 0


def test_columns_beside(tmp_path: Path) -> None:
    """A column that has the name of one that is made is refused when the stream is made."""
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"media": [sound("wav")], "media.samples": [1]}), tmp_path / "a.parquet")
    with pytest.raises(SpecError, match=r"a column 'media\.samples' beside 'media'"):
        Stream(str(tmp_path), 1, decode={"media": HEARD})
    next(Stream(str(tmp_path), 1, decode={"media": Audio(16_000)}))


def test_threads_end_with_the_stream(folder: str) -> None:
    """A stream that is closed in the midst of it leaves no thread behind."""
    stream = Stream(folder, 4, epochs=None, decode={"media": HEARD})
    next(stream)
    stream.close()
    assert not any(thread.name.startswith("runner-media") for thread in threading.enumerate())


@pytest.mark.parametrize("kind", ["sound", "video"])
def test_python_runs_on_meanwhile(kind: str) -> None:
    """Another thread runs Python for a good part of the processor time that a sound or a video takes to decode."""
    data, decode = (sound("mp3", 60.0), heard) if kind == "sound" else (video("mp4", 100, 480, 640), watched)
    said: Any = Audio(16_000) if kind == "sound" else Video("RGB", 64, 100)
    decode(data, said)  # what is imported is imported now
    stop, begun, took = threading.Event(), threading.Event(), [0.0]

    def run() -> None:
        first = time.thread_time()
        begun.set()
        while not stop.is_set():
            pass
        took[0] = time.thread_time() - first

    other = threading.Thread(target=run)
    other.start()
    begun.wait()
    first = time.thread_time()
    decode(data, said)
    own = time.thread_time() - first
    stop.set()
    other.join()
    assert took[0] > own / 5


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["empty", "text", "picture", "half", "video"])
def test_damaged_rows(tmp_path: Path, kind: str) -> None:
    """A damaged row ends the run with its column, file, unit and row, after the batches before it."""
    good = sound("flac", 0.2, 16_000)
    bad = {"empty": b"", "text": b"no sound", "picture": b"\x89PNG\r\n", "half": good[:900], "video": video()}[kind]
    stream = Stream(write(tmp_path, [good] * 9 + [bad]), 1, shuffle=False, decode={"media": Audio(16_000)})
    for _ in range(9):
        next(stream)
    with pytest.raises(DataError, match=r"a\.parquet \(unit 1, row 1\): column 'media': .* no whole sound or video"):
        next(stream)


@pytest.mark.parametrize("kind", ["wav", "flac", "mp3", "m4a", "webm", "aiff"])
@pytest.mark.parametrize("part", [0.3, 0.6])
def test_sounds_that_lost_their_end(kind: str, part: float) -> None:
    """A file that says how long it is, and ends before, is damaged."""
    data = sound(kind, 3.0)
    with pytest.raises(DataError, match="no whole sound"):
        heard(data[: int(len(data) * part)], Audio(16_000))


@pytest.mark.parametrize("kind", ["mp4", "webm", "avi", "mkv"])
def test_videos_that_lost_their_end(kind: str, tmp_path: Path) -> None:
    """A file that says how large it is, and ends before, is damaged, also where its frames are counted in front."""
    for data in (video(kind, 40), fast_start(tmp_path)):
        for part in (0.5, 0.9):
            with pytest.raises(DataError, match="no whole sound or video"):
                watched(data[: int(len(data) * part)], Video("RGB", 8, 2))


def fast_start(folder: Path) -> bytes:
    """An MP4 whose index is before its frames."""
    path = folder / "fast.mp4"
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for number in range(40):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((48, 64, 3), level(number), np.uint8))))
        file.mux(stream.encode(None))
    assert near(shown(watched(path.read_bytes(), Video(frames=2, every=39))[0]), [0, 39])
    return path.read_bytes()


def test_streamed_files() -> None:
    """WAVs whose writer did not know their length, and fragmented MP4s, are whole."""
    data = sound("wav", 0.5, 16_000)
    at = data.find(b"data") + 4
    for size in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x80"):
        streamed = data[:4] + size + data[8:at] + size + data[at + 4 :]
        assert heard(streamed, Audio(16_000))[1] == 8000
    found, _ = watched(video("mp4", 20, movflags="frag_keyframe+empty_moov"), Video(frames=3, every=5))
    assert near(shown(found), [0, 5, 10])


def test_sounds_without_a_sample() -> None:
    """A file that is whole, and has no sample, is an error."""
    data = sound("wav", 1 / 16_000, 16_000)[:-2]
    size = data.find(b"data") + 4
    empty = data[:4] + struct.pack("<I", len(data) - 8) + data[8:size] + bytes(4)
    for audio in (Audio(16_000), Audio(8_000, seconds=1, crop="random")):
        with pytest.raises(DataError, match="no samples"):
            heard(empty, audio)


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
@pytest.mark.parametrize("kind", ["flac", "mp3"])
def test_channels_that_change(kind: str, order: tuple[int, int]) -> None:
    """A sound whose frames change their number of channels is an error, for it makes torchcodec's resampler read
    outside of memory."""
    first, second = (sound(kind, 1.0, 48_000, channels) for channels in order)
    sync = {"flac": b"\xff\xf8", "mp3": b"\xff\xfb"}[kind]
    for rate in (48_000, 16_000):
        with pytest.raises(DataError, match="no whole sound"):
            heard(first + second[second.find(sync) :], Audio(rate, 2))


@pytest.mark.parametrize("rate", [1, 999, 2_000_000_000])
def test_rates_that_no_sound_has(rate: int) -> None:
    """A few bytes that say they were hours, or need a resampler of gigabytes, are refused."""
    data = sound("wav", 0.5, 16_000)
    with pytest.raises(DataError, match=r"samples a second|Failed to open"):
        heard(data[:24] + struct.pack("<I", rate) + data[28:], Audio(16_000))


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sounds and clips that would be very large are refused before there is memory for them; limits can be moved."""
    silence = io.BytesIO()
    with av.open(silence, "w", format="flac") as file:
        stream = file.add_stream("flac", rate=8000, layout="mono")
        change = av.AudioResampler("s16", "mono", 8000, frame_size=4608)
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 480_000), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            for part in change.resample(frame):
                file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    monkeypatch.setenv("RUNNER_DATA_AT_ONCE_BYTES", "10MB")
    with pytest.raises(DataError, match=r"(?s)a sound of .* or more.*RUNNER_DATA_AT_ONCE_BYTES"):
        heard(silence.getvalue()[:200_000] + bytes(0), Audio(384_000, 8))
    heard(silence.getvalue(), Audio(16_000, seconds=2, crop="random"))
    with pytest.raises(DataError, match=r"(?s)a clip of 60 frames of 640 by 480 pixels.*RUNNER_DATA_AT_ONCE_BYTES"):
        watched(video("mp4", 60, 480, 640), Video())
    with pytest.raises(DataError, match=r"(?s)a clip of .* frames.*RUNNER_DATA_AT_ONCE_BYTES"):
        watched(apart(0, 1_000_000_000), Video("RGB", 8, fps=1000))  # two frames that are eleven days apart
    assert watched(apart(0, 1_000_000_000), Video("RGB", 8, 3, fps=1000))[1] == 3
    monkeypatch.setenv("RUNNER_DATA_FRAME_PIXELS", "3000")
    with pytest.raises(DataError, match=r"(?s)64 by 48 pixels.*up to 3,000 pixels.*RUNNER_DATA_FRAME_PIXELS"):
        watched(video(), Video("RGB", 8, 2))


def apart(*milliseconds: int) -> bytes:
    """A video whose frames are shown at these times."""
    target = io.BytesIO()
    with av.open(target, "w", format="matroska") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        for number, shown_at in enumerate(milliseconds):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), level(number), np.uint8))
            frame.pts, frame.time_base = shown_at, Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return target.getvalue()


def test_frames_of_uneven_times() -> None:
    """With `fps` a frame is taken as often as it is shown, whatever the others take."""
    found, count = watched(apart(0, 100, 110, 120, 500, 900, 910, 1000), Video(frames=11, fps=10))
    assert (count, near(shown(found), [0, 1, 3, 3, 3, 4, 4, 4, 4, 5, 7])) == (11, True)
    assert near(shown(watched(apart(5000, 5100, 5200), Video(frames=3, fps=10))[0]), [0, 1, 2])


def test_sizes_that_change() -> None:
    """A video whose frames grow in the midst of it is an error."""
    small, large = video("webm", 6), video("webm", 6, 96, 128)
    target = io.BytesIO()
    with (
        av.open(io.BytesIO(small)) as one,
        av.open(io.BytesIO(large)) as other,
        av.open(target, "w", format="webm") as file,
    ):
        stream, at = file.add_stream_from_template(one.streams.video[0]), 0
        for packet in [*one.demux(video=0), *other.demux(video=0)]:
            if packet.size:
                packet.stream, packet.pts, packet.dts, at = stream, at, at, at + 40
                file.mux(packet)
    with pytest.raises(DataError, match="no whole sound or video"):
        watched(target.getvalue(), Video("RGB", 8, 12))


def test_nothing_else_is_opened() -> None:
    """What begins as media, and names another file behind that, has nobody ask for it."""
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/".encode()
        for text in (
            b"\xff\xfb\n#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + url + b"a.mp3\n#EXT-X-ENDLIST\n",
            b"\xff\xfb\n<MPD profiles='urn:mpeg:dash:profile:full:2011'><BaseURL>" + url + b"</BaseURL></MPD>",
            b"OggS\nv=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n" * 9,
        ):
            with pytest.raises(DataError, match="no whole sound or video"):
                heard(text, Audio(16_000))
            with pytest.raises(DataError, match="no whole sound or video"):
                watched(text, Video())
        server.shutdown()
    assert not asked


def test_transport_streams() -> None:
    """Frames are not taken from transport streams, in which FFmpeg finds others than are asked for."""
    with pytest.raises(DataError, match="transport stream"):
        watched(video("ts"), Video(frames=2))


# -- mutations ---------------------------------------------------------------------------------------------------------


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The data with a few bytes changed, moved, left out or put in, half of them near its beginning."""
    found, how = bytearray(data), int(rng.integers(0, 8))

    def place() -> int:
        return int(rng.integers(0, min(len(found), 2000) if rng.random() < 0.5 else len(found)))

    at, many = place(), int(rng.integers(1, 400))
    if how == 0:
        return bytes(found[:at])
    if how == 1:
        found[at] ^= 1 << int(rng.integers(0, 8))
    elif how == 2:
        for _ in range(many // 8 + 1):
            found[place()] = int(rng.integers(0, 256))
    elif how == 3:
        found[at : at + many] = bytes(many)
    elif how == 4:
        other = place()
        found[at : at + many] = found[other : other + many]
    elif how == 5:
        del found[at : at + many]
    elif how == 6:
        found[at:at] = rng.bytes(many)
    else:
        found[at : at + 4] = rng.bytes(4) if rng.random() < 0.5 else b"\xff\xff\xff\xff"
    return bytes(found)


def attack(seed: int, many: int) -> Iterator[str]:
    """Decode damaged files of each kind. Gives what each became."""
    rng = np.random.default_rng(seed)
    sounds = Audio(16_000, seconds=0.5, crop="random"), Audio(16_000, 2), Audio(8_000, seconds=3)
    clips = (
        Video("RGB", 16, 4, every=3, start="random", crop="random"),
        Video("L", frames=3, fps=7, start="center"),
        Video("RGB", 8, 5, every=None, start="random"),
    )
    for kind in [*SOUNDS, *VIDEOS]:
        is_sound = kind in SOUNDS
        good = [sound(kind, 1.0, 48_000, 2), sound(kind, 0.5, 24_000)] if is_sound else [video(kind, 20)]
        for number in range(many):
            data = mutated(good[number % len(good)], rng)
            try:
                if is_sound:
                    heard(data, sounds[number % 3])
                else:
                    watched(data, clips[number % 3])
                yield "decoded"
            except DataError:
                yield "error"


def test_mutated_files() -> None:
    """Whatever bytes are changed, there is a sound or a clip, or a DataError."""
    found = list(attack(4, 25))
    assert {*found} == {"decoded", "error"}


@pytest.mark.soak
@pytest.mark.timeout(1400)
@pytest.mark.parametrize("seed", range(4))
def test_very_many_mutated_files(seed: int) -> None:
    """The same of thousands."""
    assert len(list(attack(100 + seed, 300))) == 300 * len([*SOUNDS, *VIDEOS])
