"""Pictures: what `decode=` makes of a column, the same for any number of ranks, threads and workers."""

from __future__ import annotations

import io
import itertools
import pickle
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch
from PIL import Image as pillow
from torch.utils.data import DataLoader

from runner import Image, Mix, Stream
from runner.data.stream.media.picture import Decoder
from runner.data.stream.media.steps import Decoding
from runner.data.stream.media.windows import Window, Windows
from runner.data.stream.ragged import Ragged
from runner.data.stream.steps import Ready
from runner.errors import DataError, SpecError

ROWS = 48


def pixels(number: int, height: int = 40, width: int = 56) -> np.ndarray[Any, Any]:
    """Smooth ground, and some noise."""
    rng = np.random.default_rng(number)
    ground = pillow.fromarray(rng.integers(0, 256, (3, 4, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-9, 10, (height, width, 3))
    return np.clip(np.asarray(ground, np.int64) + noise, 0, 255).astype(np.uint8)


def jpeg(number: int, height: int = 40, width: int = 56) -> bytes:
    """A JPEG of these pixels."""
    return bytes(simplejpeg.encode_jpeg(pixels(number, height, width), 90, "RGB", "420"))


def saved(picture: Any, kind: str, **said: Any) -> bytes:
    """A picture of Pillow's as a file."""
    target = io.BytesIO()
    picture.save(target, kind, **said)
    return target.getvalue()


def write(folder: Path, values: list[Any], kind: pa.DataType | None = None) -> str:
    """A Parquet file of ids and pictures, with row groups of 8."""
    folder.mkdir(exist_ok=True)
    table = pa.table({"id": range(len(values)), "image": pa.array(values, kind or pa.binary())})
    pq.write_table(table, folder / "a.parquet", row_group_size=8)
    return str(folder)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """JPEGs of 40 by 56 and larger."""
    return write(tmp_path_factory.mktemp("pictures"), [jpeg(i, 40 + i % 5, 56 + i % 7) for i in range(ROWS)])


RANDOM = Image("RGB", (24, 32), crop="random", flip=0.5)
SCALED = Image("RGB", 24, crop="random", scale=(0.2, 1.0), flip=0.5)


def by_position(streams: list[Any]) -> dict[int, tuple[int, bytes]]:
    """Position -> id and pixels."""
    found = {}
    for stream in streams:
        for batch in stream:
            for at, number, picture in zip(batch.positions, batch["id"], batch["image"], strict=True):
                found[int(at)] = int(number), picture.numpy().tobytes()
    return found


@pytest.fixture(scope="module")
def expected(folder: str) -> dict[int, tuple[int, bytes]]:
    """Two epochs, by one rank and one thread."""
    return by_position([Stream(folder, 12, seed=3, epochs=2, threads=1, decode={"image": SCALED})])


# -- what comes out ----------------------------------------------------------------------------------------------------


def test_windows_are_those_of_the_decoder(folder: str) -> None:
    """A crop without a scale has the very pixels that the library gives for the whole picture."""
    stream = Stream(folder, 8, seed=1, decode={"image": RANDOM})
    windows, places = Windows(RANDOM, 1, 0), set()
    for batch in stream:
        assert batch["image"].shape == (8, 24, 32, 3)
        assert batch["image"].dtype == torch.uint8
        for at, number, found in zip(batch.positions.tolist(), batch["id"].tolist(), batch["image"], strict=True):
            whole = simplejpeg.decode_jpeg(jpeg(number, 40 + number % 5, 56 + number % 7), "RGB")
            window = windows.window(*whole.shape[:2], at)
            top, left = int(window.top), int(window.left)
            part = whole[top : top + 24, left : left + 32]
            assert np.array_equal(found.numpy(), part[:, ::-1] if window.flip else part)
            places.add((top, left, window.flip))
    assert len(places) > ROWS // 2


def test_center_and_whole(tmp_path: Path) -> None:
    """A center crop is the largest window in the middle, no crop the whole picture, as Pillow brings it to a size."""
    url = write(tmp_path, [jpeg(0)])
    whole = pillow.fromarray(simplejpeg.decode_jpeg(jpeg(0), "RGB"))
    for image, box in (
        (Image(size=30, crop="center"), (8, 0, 48, 40)),
        (Image(size=30, crop="center", scale=0.25), (18, 10, 38, 30)),
        (Image(size=(30, 20)), (0, 0, 56, 40)),
    ):
        (batch,) = Stream(url, 1, as_="numpy", decode={"image": image})
        wanted = whole.crop(box).resize(image.shape[::-1], pillow.Resampling.BILINEAR)
        assert np.array_equal(batch["image"][0], np.asarray(wanted)), image


def test_a_smaller_picture_is_made_larger(tmp_path: Path) -> None:
    """A random crop of a picture with a side below the size is the largest window of that shape, made larger."""
    url = write(tmp_path, [jpeg(0, 1, 1), jpeg(1, 10, 60)])
    (batch,) = Stream(url, 2, shuffle=False, as_="numpy", decode={"image": Image(size=20, crop="random")})
    assert batch["image"].shape == (2, 20, 20, 3)
    assert (batch["image"][0] == simplejpeg.decode_jpeg(jpeg(0, 1, 1), "RGB")).all()


def test_large_pictures_are_decoded_at_a_part_of_their_size() -> None:
    """Of a picture eight times as large as wanted an eighth is decoded, which is what the whole one looks like."""
    data = jpeg(0, 323, 485)
    found = np.empty((40, 60, 3), np.uint8)
    decoder = Decoder(Image(size=(40, 60)))
    decoder.into(data, lambda height, width: Window(0, 0, height, width), found)
    assert decoder._scratch.buffer.size == 41 * 61 * 3
    whole = pillow.fromarray(simplejpeg.decode_jpeg(data, "RGB")).resize((60, 40), pillow.Resampling.BOX)
    assert np.abs(found.astype(int) - np.asarray(whole)).mean() < 3


def test_own_sizes(folder: str) -> None:
    """Without a size a batch has a list, in which each picture is what the library decodes."""
    for batch in Stream(folder, 8, decode={"image": Image("RGB")}):
        for number, found in zip(batch["id"].tolist(), batch["image"], strict=True):
            whole = simplejpeg.decode_jpeg(jpeg(number, 40 + number % 5, 56 + number % 7), "RGB")
            assert isinstance(found, torch.Tensor)
            assert np.array_equal(found.numpy(), whole)


def test_kinds_of_pictures(tmp_path: Path) -> None:
    """Grey and CMYK JPEGs, PNGs with alpha, a palette and 16 bits, and WebP become what Pillow makes of them."""
    picture = pillow.fromarray(pixels(5))
    deep = (np.arange(40 * 56).reshape(40, 56) * 29).astype(np.uint16)
    alpha = picture.copy()
    alpha.putalpha(128)
    values = [
        saved(picture.convert("L"), "JPEG", quality=95),
        saved(picture.convert("CMYK"), "JPEG", quality=95),
        saved(alpha, "PNG"),
        saved(picture.convert("P"), "PNG"),
        saved(picture, "WEBP", lossless=True),
        saved(picture, "JPEG", quality=95, progressive=True),
    ]
    url = write(tmp_path / "a", values)
    for mode in ("RGB", "L"):
        (batch,) = Stream(url, 6, shuffle=False, as_="numpy", decode={"image": Image(mode, (40, 56))})
        for value, found in zip(values, batch["image"], strict=True):
            wanted = np.asarray(pillow.open(io.BytesIO(value)).convert(mode)).reshape(found.shape)
            apart = np.abs(found.astype(int) - wanted)  # libjpeg-turbo takes the grey that is in the file
            assert apart.mean() < 1 if mode == "L" else not apart.any()
    url = write(tmp_path / "b", [saved(pillow.fromarray(deep), "PNG")])
    (batch,) = Stream(url, 1, as_="numpy", decode={"image": Image("L", (40, 56))})
    assert np.array_equal(batch["image"][0, :, :, 0], deep >> 8)


def test_structures_with_bytes(tmp_path: Path) -> None:
    """What Hugging Face's datasets write, bytes beside a path, is a column of pictures."""
    kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
    url = write(tmp_path, [{"bytes": jpeg(i), "path": "x"} for i in range(4)], kind)
    (batch,) = Stream(url, 4, shuffle=False, decode={"image": Image(size=(40, 56))})
    assert np.array_equal(batch["image"][3].numpy(), simplejpeg.decode_jpeg(jpeg(3), "RGB"))


def test_nulls(tmp_path: Path) -> None:
    """A null ends the run, or is a black picture that the batch tells of, as asked."""
    url = write(tmp_path, [jpeg(0), None, jpeg(2)])
    with pytest.raises(DataError, match=r"a\.parquet \(unit 0, row 1\): column 'image': a null"):
        next(Stream(url, 3, shuffle=False, decode={"image": Image(size=8)}))
    (batch,) = Stream(url, 3, shuffle=False, decode={"image": Image(size=8, null="zero")})
    assert batch["image.valid"].tolist() == [True, False, True]
    assert not batch["image"][1].any()
    assert batch["image"][2].any()


# -- the same, however it is read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 4])
def test_any_world_size(folder: str, expected: dict[int, tuple[int, bytes]], world: int) -> None:
    """Each position has the same pixels for any number of ranks and threads."""
    arguments = {"seed": 3, "epochs": 2, "world_size": world, "threads": 1 + world % 3, "decode": {"image": SCALED}}
    assert by_position([Stream(folder, 12 // world, rank=rank, **arguments) for rank in range(world)]) == expected


def test_epochs_differ(expected: dict[int, tuple[int, bytes]]) -> None:
    """A row has another window in the next epoch."""
    first = {number: picture for at, (number, picture) in expected.items() if at < ROWS}
    second = {number: picture for at, (number, picture) in expected.items() if at >= ROWS}
    assert first.keys() == second.keys()
    assert sum(first[number] == second[number] for number in first) <= 2


def test_resume(folder: str, expected: dict[int, tuple[int, bytes]]) -> None:
    """Behind a state, also one of a stream that decoded nothing, come the same pixels, with another batch too."""
    plain = Stream(folder, 12, seed=3, epochs=2)
    for _ in range(3):
        next(plain)
    stream = Stream(folder, 6, seed=3, epochs=2, decode={"image": SCALED})
    stream.load_state_dict(plain.state_dict())
    next(stream)
    again = pickle.loads(pickle.dumps(stream))
    found = by_position([again])
    assert found == {at: expected[at] for at in range(42, 2 * ROWS)}


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_of_a_loader(folder: str, expected: dict[int, tuple[int, bytes]], workers: int) -> None:
    """The workers of a DataLoader give the same pixels in the same order."""
    stream = Stream(folder, 12, seed=3, epochs=2, decode={"image": SCALED})
    found = by_position([DataLoader(stream, batch_size=None, num_workers=workers)])
    assert list(found.items()) == sorted(expected.items(), key=lambda one: list(found).index(one[0]))


def test_mixtures(folder: str, tmp_path: Path) -> None:
    """In a mixture too the pixels of a position are those of any number of ranks."""
    other = write(tmp_path, [jpeg(100 + i) for i in range(20)])
    mix = Mix({"a": 0.5, "b": 0.5}, {"a": folder, "b": other})
    one = by_position([Stream(mix, 8, decode={"image": SCALED})])
    two = by_position([Stream(mix, 4, rank=rank, world_size=2, decode={"image": SCALED}) for rank in range(2)])
    assert one == two


@pytest.mark.parametrize(("ready_bytes", "ahead"), [(2 * 8 * 40 * 56 * 3 - 1, 0), (1 << 20, 1)])
def test_how_far_it_is_ahead(ready_bytes: int, ahead: int) -> None:
    """The next batch is begun before one is given only where two fit into what may be ready."""
    pictures, taken = alone(ready_bytes), []
    steps = pictures.decoded(ready(step, taken) for step in range(5))
    next(steps)  # how large a batch is
    for given in range(2, 4):
        next(steps)
        assert len(taken) == given + ahead
    assert [done.columns["image"].shape for done, _ in steps] == [(8, 40, 56, 3)] * 2


def test_what_was_begun_comes_before_an_error() -> None:
    """Where reading fails, the batches that were read before are given first."""

    def steps() -> Iterator[tuple[Ready, int]]:
        for step in range(3):
            yield ready(step, [])
        raise DataError("away")

    found = alone(1 << 20).decoded(steps())
    assert len(list(itertools.islice(found, 3))) == 3
    with pytest.raises(DataError, match="away"):
        next(found)


def alone(ready_bytes: int) -> Decoding:
    """What decodes, without a stream."""
    return Decoding({"image": Image(size=(40, 56))}, 0, 100, 2, ready_bytes, lambda epoch, position: "here")


def ready(step: int, taken: list[int]) -> tuple[Ready, int]:
    """A batch of 8 pictures that is not decoded yet."""
    taken.append(step)
    data = [jpeg(i) for i in range(8)]
    offsets = np.cumsum([0, *map(len, data)])
    values = Ragged(np.frombuffer(b"".join(data), np.uint8), offsets, "bytes")
    made = Ready({"image": values}, np.arange(8) + 8 * step, np.ones(8, bool), 1.0, 0, (0, 8 * step + 8))
    return made, values.nbytes


def test_threads_end_with_the_stream(folder: str) -> None:
    """A stream that is closed in the midst of it leaves no thread behind."""
    stream = Stream(folder, 4, epochs=None, decode={"image": RANDOM})
    next(stream)
    assert any(thread.name.startswith("runner-media") for thread in threading.enumerate())
    stream.close()
    assert not any(thread.name.startswith("runner-media") for thread in threading.enumerate())


# -- bad data and bad arguments ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["empty", "text", "head", "half", "zeros", "png"])
def test_damaged_pictures(tmp_path: Path, kind: str) -> None:
    """A damaged picture ends the run with its column, file, unit and row, after the batches before it."""
    good, png = jpeg(9), saved(pillow.fromarray(pixels(9)), "PNG")
    middle = len(good) // 2
    bad = {
        "empty": b"",
        "text": b"no picture at all",
        "head": good[:40],
        "half": good[:middle],
        "zeros": good[:middle] + bytes(200) + good[middle + 200 :],
        "png": png[: len(png) // 2],
    }[kind]
    url = write(tmp_path, [jpeg(i) for i in range(9)] + [bad])
    stream = Stream(url, 1, shuffle=False, decode={"image": Image(size=16, crop="random")})
    for _ in range(9):
        next(stream)
    where = r"a\.parquet \(unit 1, row 1\): column 'image': .* no whole picture"
    with pytest.raises(DataError, match=where):
        next(stream)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "JPEG2000", "PPM"])
def test_mutated_pictures(kind: str) -> None:
    """Whatever bytes are changed, there is a picture or a DataError."""
    rng, good = np.random.default_rng(4), saved(pillow.fromarray(pixels(4)), kind)
    decoder, windows, found = Decoder(SCALED), Windows(SCALED, 0, 0), np.empty((24, 24, 3), np.uint8)
    refused = 0
    for number in range(60):
        bad = np.frombuffer(good, np.uint8).copy()
        bad[rng.integers(0, len(bad) if number % 2 else 60, 4)] = rng.integers(0, 256, 4)
        bad = bad[: len(bad) - number % 3 * 100]
        try:
            decoder.into(bad.data, lambda height, width, at=number: windows.window(height, width, at), found)
        except DataError:
            refused += 1
    assert refused > 0


@pytest.mark.filterwarnings("ignore:Image size")
@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_a_huge_picture_is_refused(tmp_path: Path, kind: str) -> None:
    """A header of 65,500 by 65,500 pixels, the most that libjpeg-turbo takes, is refused before there is memory."""
    if kind == "jpeg":
        data = jpeg(0)
        at = data.index(b"\xff\xc0") + 5
        data = data[:at] + b"\xff\xdc\xff\xdc" + data[at + 4 :]
    else:
        data = saved(pillow.new("L", (12_000, 10_000)), "PNG")
    with pytest.raises(DataError, match=r"(?s)pixels.*RUNNER_DATA_PIXELS"):
        next(Stream(write(tmp_path, [data]), 1, decode={"image": Image(size=16)}))


def test_the_limit_of_pixels_can_be_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment moves the limit."""
    monkeypatch.setenv("RUNNER_DATA_PIXELS", "1000")
    with pytest.raises(DataError, match=r"(?s)56 by 40 pixels.*up to 1,000 pixels.*RUNNER_DATA_PIXELS"):
        next(Stream(write(tmp_path, [jpeg(0)]), 1, decode={"image": Image(size=16)}))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"mode": "BGR"}, "mode='BGR'"),
        ({"size": 0}, "size=0"),
        ({"size": (1, 2, 3)}, "size="),
        ({"crop": "random"}, "crop='random'.*size"),
        ({"size": 8, "crop": "left"}, "crop='left'"),
        ({"size": 8, "scale": 0.5}, "scale=0.5.*crop"),
        ({"size": 8, "crop": "random", "scale": 0.5}, r"scale=0.5.*\(least, largest\)"),
        ({"size": 8, "crop": "random", "scale": (0.5, 1.5)}, "up to 1"),
        ({"size": 8, "crop": "center", "scale": 2}, "scale=2"),
        ({"size": 8, "crop": "random", "ratio": (1, 2)}, "ratio=.*scale"),
        ({"flip": 2}, "flip=2"),
        ({"null": "skip"}, "null='skip'"),
        ({"sise": 8}, "unknown field 'sise'"),
    ],
)
def test_what_an_image_may_be(said: dict[str, Any], words: str) -> None:
    """What cannot be is refused with what is allowed."""
    with pytest.raises(SpecError, match=f"(?s){words}"):
        Image(**said)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({"decode": {"id": Image()}}, "column of int64.*binary"),
        ({"decode": {"picture": Image()}}, "picture"),
        ({"decode": {"image": "RGB"}}, "runner.Image"),
        ({"decode": {"image": Image()}, "as_": "arrow"}, "as_='arrow'"),
        ({"decode": {"image": Image()}, "columns": ["id"]}, "image"),
    ],
)
def test_what_can_be_decoded(folder: str, said: dict[str, Any], words: str) -> None:
    """A column that is not there, is not binary, or not declared by an Image is refused where the stream is made."""
    with pytest.raises((SpecError, DataError), match=f"(?s){words}"):
        Stream(folder, 4, **said)
