"""Transforms of batches: how they are called, and what becomes of their batches on helpers that are not real."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from runner import Image, Stream
from runner.data.stream import Batch
from runner.data.stream.batch import make_batch
from runner.data.stream.steps import Ready, size_of
from runner.errors import DataError, OutOfMemory, RunFailed, UserCodeError, WorkerLost
from runner.spec import Train
from runner.train.feeding.answer import batch_of, packed, plain
from runner.train.feeding.helpers import MOST_TRIES, HelperLost, Helpers
from runner.train.feeding.parcel import Parcel, pack, unpack
from runner.train.feeding.share import share
from runner.train.feeding.transform import BatchTransform, with_columns
from runner.train.feeding.window import Window
from runner.train.gang.inline import InlineGang
from runner.train.stage import run_train
from tests.unit.data.test_pictures import jpeg
from tests.unit.data.test_pictures import write as write_pictures
from tests.unit.train.kit import make_scope


def step(number: int) -> Ready:
    """A batch of two rows whose column says which it is."""
    positions = np.arange(2 * number, 2 * number + 2)
    columns = {"n": np.full(2, number)}
    return Ready(columns, positions, np.ones(2, bool), 1.0, 0, (0, 2 * number + 2))


def steps(count: int, taken: list[int] | None = None) -> Iterator[tuple[Ready, int]]:
    """Numbered batches; `taken` is told which were asked for."""
    for number in range(count):
        if taken is not None:
            taken.append(number)
        yield step(number), 16


class Scripted:
    """Helpers that do as they are told: `script(number of the batch, how often it has been begun)` -> "die" or None."""

    def __init__(self, count: int, script: Any = lambda number, tries: None, deaths_at_start: int = 0) -> None:
        self.count, self._script = count, script
        self.begun: list[int] = []
        self.started = 0
        self.ended = 0
        self.deaths_at_start = deaths_at_start
        self.lock = threading.Lock()

    def start(self, number: int) -> Scripted:
        """Itself, in the place of a process."""
        with self.lock:
            self.started += 1
        return self

    def ready(self) -> None:
        """Dies as often as it is to."""
        with self.lock:
            self.deaths_at_start -= 1
            if self.deaths_at_start >= 0:
                raise HelperLost(OutOfMemory("no memory"))

    def call(self, parcel: Parcel) -> Parcel:
        """The batch, ten times as large."""
        ready, _ = unpack(parcel)
        number = int(ready.columns["n"][0])
        with self.lock:
            self.begun.append(number)
            tries = self.begun.count(number)
        told = self._script(number, tries)
        if told == "die":
            raise HelperLost(WorkerLost("it died"))
        if told == "raise":
            return pack(("error", UserCodeError("ValueError: no")))
        return pack(("columns", {"n": ready.columns["n"] * 10}))

    def end(self) -> None:
        """Counted."""
        with self.lock:
            self.ended += 1


def numbers(window: Window, count: int) -> list[int]:
    """What comes out of a window, by batch."""
    return [int(ready.columns["n"][0]) for ready, _ in window.transformed(steps(count))]


@pytest.mark.parametrize("count", [1, 3])
def test_batches_keep_their_order_and_their_places(count: int) -> None:
    """Batches come in the order of the stream, each with its own place, however long one of them takes and however many
    helpers there are."""
    second = threading.Event()

    def script(number: int, tries: int) -> None:
        if number == 1:
            second.set()
        elif number == 0 and count > 1:
            assert second.wait(10)  # the first is done after the second

    launcher = Scripted(count, script)
    helpers = Helpers(launcher, "Train 'fit'")
    found = list(Window(helpers.submit, 2 * count).transformed(steps(20)))
    helpers.close()
    assert [int(ready.columns["n"][0]) for ready, _ in found] == [10 * n for n in range(20)]
    assert [ready.after for ready, _ in found] == [(0, 2 * n + 2) for n in range(20)]
    assert launcher.ended >= launcher.started == count


def test_no_more_batches_are_under_way_than_the_window_has() -> None:
    """Of a consumer that takes nothing more, no more batches are read than the window has room for."""
    taken: list[int] = []
    helpers = Helpers(Scripted(2), "Train 'fit'")
    coming = Window(helpers.submit, 4).transformed(steps(100, taken))
    for number in range(3):
        assert int(next(coming)[0].columns["n"][0]) == 10 * number
        assert len(taken) == 4 + number
    coming.close()
    helpers.close()


def test_the_batch_of_a_dead_helper_is_begun_again(capfd: pytest.CaptureFixture[str]) -> None:
    """A helper that dies costs its batch, which another begins again: none is lost, none comes twice."""
    launcher = Scripted(2, lambda number, tries: "die" if number in (0, 7) and tries < MOST_TRIES else None)
    helpers = Helpers(launcher, "Train 'fit'")
    assert numbers(Window(helpers.submit, 4), 12) == [10 * n for n in range(12)]
    helpers.close()
    assert sorted(launcher.begun) == sorted([*range(12), 0, 0, 7, 7])
    assert launcher.started == 2 + 4
    assert capfd.readouterr().out.count("it is begun again") == 4


def test_a_batch_that_ends_its_helpers_is_an_error_with_its_place() -> None:
    """A batch whose helpers die again and again fails the training, behind the batches before it, by its positions."""
    helpers = Helpers(Scripted(2, lambda number, tries: "die" if number == 5 else None), "Train 'fit', transform")
    coming, found = Window(helpers.submit, 4).transformed(steps(12)), []
    with pytest.raises(WorkerLost, match=r"positions 10 to 11, epoch 0 has ended 3 workers; the last: it died"):
        found.extend(int(ready.columns["n"][0]) for ready, _ in coming)
    helpers.close()


def test_errors_come_behind_the_batches_before_them() -> None:
    """What the transform raises, and what reading raises, come after all batches before."""

    def broken() -> Iterator[tuple[Ready, int]]:
        yield from steps(3)
        raise DataError("a broken file")

    helpers = Helpers(Scripted(2, lambda number, tries: "raise" if number == 4 else None), "Train 'fit'")
    for source, kind, count in ((steps(9), UserCodeError, 4), (broken(), DataError, 3)):
        coming = Window(helpers.submit, 4).transformed(source)
        for number in range(count):
            assert int(next(coming)[0].columns["n"][0]) == 10 * number
        with pytest.raises(kind):
            next(coming)
    helpers.close()


class Odd(Exception):
    """A value that can be pickled and not unpickled."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(one)


def test_a_value_that_cannot_be_made_again_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a helper gives, and a rank cannot unpickle, is told with its batch, and so is a batch that cannot be sent:
    neither is waited for without end."""
    launcher = Scripted(1)
    monkeypatch.setattr(launcher, "call", lambda parcel: pack(("columns", {"n": [Odd(1, 2)]})))
    helpers = Helpers(launcher, "Train 'fit', transform")
    with pytest.raises(DataError, match=r"positions 0 to 1, epoch 0 that cannot be made again in the rank"):
        helpers.submit(step(0)).result(10)
    with pytest.raises(AttributeError):
        helpers.submit(replace(step(1), columns={"n": [lambda: 0]})).result(10)
    helpers.close()


def test_helpers_that_cannot_start_are_an_error() -> None:
    """Where no helper gets as far as working, the batches fail with the reason; a few deaths at the start do not."""
    helpers = Helpers(Scripted(2, deaths_at_start=3), "Train 'fit'")
    assert numbers(Window(helpers.submit, 4), 5) == [0, 10, 20, 30, 40]
    helpers.close()
    helpers = Helpers(Scripted(2, deaths_at_start=100), "Train 'fit'")
    with pytest.raises(OutOfMemory, match="no worker can be started; the last: no memory"):
        numbers(Window(helpers.submit, 4), 5)
    with pytest.raises(RunFailed):
        helpers.submit(step(0)).result()
    helpers.close()


def test_a_stream_that_is_closed_waits_for_no_helper() -> None:
    """Who stops a window is not kept by a helper that is at work."""
    release, begun = threading.Event(), threading.Event()

    def script(number: int, tries: int) -> None:
        begun.set()
        assert release.wait(10)

    helpers = Helpers(Scripted(1, script), "Train 'fit'")
    window = Window(helpers.submit, 2)
    ended: list[BaseException] = []

    def consume() -> None:
        try:
            next(window.transformed(steps(5)))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=consume)
    thread.start()
    assert begun.wait(10)
    window.stop()
    thread.join(10)
    assert not thread.is_alive()
    assert ended
    release.set()
    helpers.close()


def test_helpers_are_shared_among_ranks() -> None:
    """Each rank has its helpers, one at least, and together they have all."""
    for helpers, ranks in ((4, 4), (7, 3), (16, 5)):
        shares = [share(helpers, rank, ranks) for rank in range(ranks)]
        assert sum(shares) == helpers
        assert max(shares) - min(shares) <= 1
        assert min(shares) >= 1


def test_arrays_come_back_as_they_were_and_can_be_written() -> None:
    """Arrays travel beside the pickle: equal, of their own memory, and writable; slices too."""
    table = np.arange(24).reshape(4, 6)
    sent = {"rows": table[1:3], "column": table[:, 2], "words": ["a", None]}
    found = unpack([bytearray(part) for part in pack(sent)])
    for name in ("rows", "column"):
        assert np.array_equal(found[name], sent[name])
        found[name][:] = 0
    assert table.sum() == 276
    assert found["words"] == ["a", None]


class Decoding(Scripted):
    """Helpers that decode pictures, as real ones do before they call the transform."""

    def call(self, parcel: Parcel) -> Parcel:
        """The columns of the batch, with pictures."""
        try:
            return pack(("columns", dict(batch_of(*unpack([bytearray(part) for part in parcel])))))
        except DataError as error:
            return pack(("error", error))


def test_helpers_decode_pictures_as_a_stream_does(tmp_path: Path) -> None:
    """Pictures that helpers decode, random windows included, are those of the stream; one that is none is told with its
    file and row, behind the batches before it. What comes behind a window is given what it makes."""
    good = write_pictures(tmp_path / "good", [jpeg(number) for number in range(24)])
    decode = {"image": Image("RGB", 16, crop="random", flip=0.5)}
    with Stream(good, batch_size=8, decode=decode, as_="numpy", epochs=2) as plain:
        expected = [(batch["id"].tolist(), batch["image"].tolist()) for batch in plain]
    helpers = Helpers(Decoding(2), "Train 'fit'")
    stream = Stream(good, batch_size=8, decode=decode, as_="numpy", epochs=2)
    stream.pass_through(Window(helpers.submit, 4, stream.hand_over_decoding()))
    stream.pass_through(Shifted())
    with stream:
        found = [(batch["id"].tolist(), batch["image"].tolist()) for batch in stream]
    assert found == [([one + 1 for one in ids], image) for ids, image in expected]

    bad = write_pictures(tmp_path / "bad", [*(jpeg(number) for number in range(20)), b"none", *[jpeg(21)] * 3])
    stream = Stream(bad, batch_size=8, decode=decode, as_="numpy", shuffle=False)
    stream.pass_through(Window(helpers.submit, 4, stream.hand_over_decoding()))
    with stream:
        assert [len(next(stream)["id"]) for _ in range(2)] == [8, 8]
        with pytest.raises(DataError, match=r"a\.parquet \(unit 2, row 4\)"):
            next(stream)
    helpers.close()


class Shifted:
    """Something behind a window."""

    def transformed(self, steps: Iterator[tuple[Ready, int]]) -> Iterator[tuple[Ready, int]]:
        """Ids that are one larger."""
        for ready, size in steps:
            yield replace(ready, columns={**ready.columns, "id": ready.columns["id"] + 1}), size

    def stop(self) -> None:
        """Nothing is waited for."""


# -- calls -----------------------------------------------------------------------------------------------------------


def batch(**columns: Any) -> Batch:
    """A batch of arrays."""
    rows = len(next(iter(columns.values())))
    return make_batch(columns, np.arange(rows), np.ones(rows, bool), 1.0, 0, "numpy")


def made(transform: Any, config: Any = "config", **more: Any) -> BatchTransform:
    """A stage's transform, ready to be called."""
    return BatchTransform(Train("fit", print, {"train": "x"}, transform=transform), config, **more)


class Once:
    """A transform that is made once."""

    def __init__(self, config: Any) -> None:
        self.config = config

    def __call__(self, batch: Any) -> Any:
        """Says what it was made with."""
        return {"given": [self.config]}


def test_a_transform_is_called_with_what_it_takes() -> None:
    """A function of (batch, config), one of (batch), one with an option besides, and a class made with the config."""
    given = batch(x=np.zeros(2))
    assert made(lambda batch, config: {"given": [config]})(given) == {"given": ["config"]}
    assert made(lambda batch, config=None: {"given": [config]})(given) == {"given": ["config"]}
    assert made(lambda batch, size=3: {"given": [size]})(given) == {"given": [3]}
    assert made(lambda batch: {"given": list(batch)})(given) == {"given": ["x"]}
    assert made(Once)(given) == {"given": ["config"]}


def test_random_numbers_of_a_batch_are_its_own() -> None:
    """Global generators give the same numbers for the same batch whenever it comes, other ones for another batch, and
    nothing of it is seen outside."""
    draw = made(lambda batch: {"r": [random.random(), np.random.rand(), float(torch.rand(()))]})
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    first = draw(batch(x=np.zeros(2)))
    after = random.random(), np.random.rand(), float(torch.rand(()))
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    assert after == (random.random(), np.random.rand(), float(torch.rand(())))
    assert draw(batch(x=np.zeros(2))) == first
    assert draw(batch(x=np.zeros(3))) != first


def test_what_a_transform_returns_is_tensors_or_refused() -> None:
    """Arrays become tensors, lists stay; what is no dict of columns, or an array that is no tensor, is told."""
    given = batch(x=np.zeros(2, np.float32))
    found = with_columns(given, {"a": np.arange(2), "b": torch.ones(2), "c": ["p", "q"]})
    assert [type(value) for value in found.values()] == [torch.Tensor, torch.Tensor, list]
    assert isinstance(found.positions, torch.Tensor)
    with pytest.raises(DataError, match="column 'a' of <U1"):
        made(lambda batch: {"a": np.array(["p", "q"])})(given)
    for wrong in (None, [1, 2], {1: np.zeros(2)}):
        with pytest.raises(DataError, match="positions 0 to 1"):
            made(lambda batch, wrong=wrong: wrong)(given)


def test_what_no_tensor_can_view_is_copied() -> None:
    """Mirrored, foreign, unaligned and read-only arrays become tensors inline as they do behind a helper, and so do
    those in lists; what a tensor was computed from is left behind."""
    pixels = np.arange(12, dtype=np.int32).reshape(3, 4)
    columns = {
        "mirrored": pixels[:, ::-1],
        "foreign": pixels.astype(">i4"),
        "apart": np.zeros(3, [("a", "i1"), ("b", "f4")])["b"],
        "read-only": np.broadcast_to(np.float32(1), (3,)),
        "list": [pixels[::-1], None, np.array(["a"])],
        "computed": torch.ones(3, requires_grad=True) * 2,
        "sparse": torch.eye(3).to_sparse(),
        "conjugate": torch.ones(3, dtype=torch.complex64).conj(),
    }
    batch = make_batch({"id": np.arange(3)}, np.arange(3), np.ones(3, bool), 1.0, 0, as_="numpy")
    made = BatchTransform(Train("fit", print, {"train": "x"}, transform=lambda batch: columns), None)(batch)
    _, sent = unpack([bytearray(part) for part in packed({name: plain(one) for name, one in made.items()}, "")])
    for found in (with_columns(batch, made), with_columns(batch, sent)):
        assert found["mirrored"].tolist() == pixels[:, ::-1].tolist()
        assert found["foreign"].dtype == torch.int32
        assert found["foreign"].tolist() == pixels.tolist()
        assert found["apart"].tolist() == [0, 0, 0]
        found["read-only"][0] = 7
        assert found["read-only"].tolist() == [7, 1, 1]
        assert found["list"][0].tolist() == pixels[::-1].tolist()
        assert found["list"][1] is None
        assert found["list"][2].tolist() == ["a"]
        assert not found["computed"].requires_grad
        assert found["sparse"].to_dense().tolist() == torch.eye(3).tolist()
        assert found["conjugate"].tolist() == [1, 1, 1]
        assert size_of(dict(found)) > 0
    for wrong in (np.zeros(2, np.longdouble), np.zeros(2, np.clongdouble), np.ma.array([1, 2], mask=[False, True])):
        columns["mirrored"] = wrong
        with pytest.raises(DataError, match="'mirrored' of c?longdouble|'mirrored' of (float|complex)|a masked array"):
            BatchTransform(Train("fit", print, {"train": "x"}, transform=lambda batch: columns), None)(batch)


def test_a_column_that_cannot_travel_is_named() -> None:
    """What a helper cannot send is told by the column's name; in the rank it would be no error."""
    assert unpack(packed({"a": np.arange(2), "b": ["x"]}, "here"))[1]["b"] == ["x"]
    with pytest.raises(DataError, match="column 'b', a generator"):
        packed({"a": np.arange(2), "b": (n for n in range(2))}, "here")


def test_what_a_transform_raises_is_the_users() -> None:
    """It is told with its line and the place of the batch; in the user's own process it is the very exception."""

    def bad(batch: Any) -> Any:
        raise KeyError("x")

    with pytest.raises(UserCodeError, match=r"KeyError: 'x' .*in bad\) at the batch of positions 0 to 1, epoch 0"):
        made(bad)(batch(x=np.zeros(2)))
    with pytest.raises(KeyError) as caught:
        made(bad, inline=True)(batch(x=np.zeros(2)))
    assert "positions 0 to 1" in caught.value.__notes__[0]


def doubled(batch: Any, config: Any) -> Any:
    """A transform in place."""
    batch["x"] *= 2
    return batch


def test_inline_the_rank_transforms_its_batches(tmp_path: Path) -> None:
    """In the user's own process a transform needs no helper, wherever it is to be done; its time counts as waiting; and
    it can be left out."""
    plain: list[Any] = []
    changed: list[Any] = []
    waits: list[float] = []
    left_out: list[Any] = []

    def take(into: list[Any]) -> Any:
        def train(ctx: Any, config: Any) -> None:
            for batch in ctx.batches("train", batch_size=8):
                into.append((batch.positions.tolist(), batch["x"].clone(), batch["id"].tolist()))
                waits.append(ctx._loop.streams.take_wait_s())

        return train

    def without(ctx: Any, config: Any) -> None:
        left_out.extend(batch["x"].clone() for batch in ctx.batches("train", batch_size=8, transform=False))

    for folder, into, more in (("a", plain, {}), ("b", changed, {"transform": doubled, "on_data": "cpu"})):
        waits.clear()
        run_train(*make_scope(tmp_path / folder, take(into), **more), InlineGang())
    run_train(*make_scope(tmp_path / "c", without, transform=doubled), InlineGang())
    assert all(torch.equal(one, other) for one, (_, other, _) in zip(left_out, plain, strict=True))
    assert [(p, i) for p, _, i in plain] == [(p, i) for p, _, i in changed]
    assert all(torch.equal(2 * one, other) for (_, one, _), (_, other, _) in zip(plain, changed, strict=True))
    assert all(wait > 0 for wait in waits)
