"""The three example jobs: what their functions promise. Whether the jobs run is for tests/local to say."""

from __future__ import annotations

import datetime
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from runner.code.references import load_file
from runner.spec import Prep, Train
from tests import ROOT


def load(path: str) -> ModuleType:
    return load_file(ROOT / path, ROOT)


@pytest.fixture(autouse=True)
def project_on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Jobs import `models` from the project's folder."""
    monkeypatch.syspath_prepend(str(ROOT))


# -- all of them -----------------------------------------------------------------------------------------------------


def test_jobs_load_neither_torch_nor_ray() -> None:
    """Every job and dataset of the project resolves by its stem, without loading torch, Ray or pandas."""
    code = (
        "import sys, runner; from runner.plan.project import find_project\n"
        "project = find_project()\n"
        "for kind in (runner.Job, runner.Dataset, runner.Cluster):\n"
        "    for stem in project.stems(kind):\n"
        "        assert isinstance(getattr(project, kind.__name__.lower())(stem), kind)\n"
        "print([m for m in ('torch', 'ray', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == "[]", done.stderr


@pytest.mark.parametrize("name", ["stdlib_gpt", "flight_delay", "digits"])
def test_a_learning_rate_prepares_nothing_again(name: str) -> None:
    """Every preparation names the config fields that it uses, and the learning rate is none of them."""
    job = load(f"jobs/{name}.py").job
    assert any(isinstance(stage, Train) for stage in job.stages)
    for stage in job.stages:
        if isinstance(stage, Prep):
            assert stage.uses is not None
            assert "lr" not in stage.uses


# -- digits ----------------------------------------------------------------------------------------------------------


def test_digits_are_scaled_and_split_by_number() -> None:
    """Pixels become -1 to 1, and each image is on exactly one side, by its id alone."""
    job = load("jobs/digits.py")
    batch = {"id": np.arange(10), "image": np.zeros((10, 8, 8), "uint8"), "label": np.arange(10)}
    batch["image"][3] = 16
    sides = job.prepare(batch, job.Config(held_out=5))
    assert sides["validation"]["label"].tolist() == [0, 5]
    assert sides["train"]["label"].tolist() == [1, 2, 3, 4, 6, 7, 8, 9]
    assert sides["train"]["image"].dtype == np.float32
    assert (sides["train"]["image"].min(), sides["train"]["image"].max()) == (-1, 1)


# -- stdlib_gpt ------------------------------------------------------------------------------------------------------


def tokens(table: pa.Table) -> list[bytes]:
    return table["tokens"].to_pylist()


def test_every_byte_but_the_first_is_predicted_once() -> None:
    """Windows overlap by one byte: behind its first byte each holds the next `context` bytes of the text."""
    text = bytes(range(50)) * 2
    rows = tokens(load("jobs/stdlib_gpt.py").windows(text, 11))
    assert {len(row) for row in rows} == {12}
    assert b"".join(row[1:] for row in rows) == text[1:100]
    assert [row[0] for row in rows] == list(text[0:99:11])


def test_a_short_text_fills_no_window() -> None:
    """A text of `context` bytes or fewer gives nothing; one more byte gives one window."""
    job = load("jobs/stdlib_gpt.py")
    assert job.windows(b"", 8) is None
    assert job.windows(b"12345678", 8) is None
    assert tokens(job.windows(b"123456789", 8)) == [b"123456789"]


def test_files_are_held_out_by_path_alone() -> None:
    """A file's side does not depend on its text or on the batch it comes in, and no window crosses sides."""
    job = load("jobs/stdlib_gpt.py")
    config = job.Config(context=4, held_out=3)
    paths = [f"lib/{n}.py" for n in range(60)]
    batch = pa.record_batch({"path": paths, "text": [f"{n:09}" for n in range(60)]})
    held_out = [n for n, path in enumerate(paths) if job.is_held_out(path, 3)]
    assert 10 < len(held_out) < 30
    both, rest = job.tokenize(batch, config), job.tokenize(batch.slice(30), config)
    seen = b"".join(row[1:] for row in tokens(both["validation"]))
    assert "\0".join(f"{n:09}" for n in held_out).encode()[1:].startswith(seen)
    assert rest["validation"].num_rows < both["validation"].num_rows
    assert both["train"].num_rows > both["validation"].num_rows


def test_the_rate_rises_and_falls() -> None:
    """The learning rate begins near 0, is full after the warm-up, and ends at 5 per cent."""
    pace = load("jobs/stdlib_gpt.py").pace
    shares = [pace(step, 800, 40) for step in range(801)]
    assert shares[0] < 0.03
    assert 0.98 < max(shares) <= 1.0
    assert shares.index(max(shares)) == 39
    assert shares[39:] == sorted(shares[39:], reverse=True)
    assert shares[-1] == pytest.approx(0.05)


def test_the_library_is_packed_without_what_is_installed(tmp_path: Path) -> None:
    """Sources come sorted by path, in their own encoding; installed packages and undecodable files do not come."""
    files = {
        "b.py": b"x = 1\n",
        "a/z.py": "# -*- coding: latin-1 -*-\n# \xe9\n".encode("latin-1"),
        "a/broken.py": b"# \xff\n",
        "site-packages/c.py": b"y = 2\n",
        "a/notes.txt": b"no",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    packed = list(load("datasets/stdlib.py").sources(tmp_path))
    assert packed == [("a/z.py", "# -*- coding: latin-1 -*-\n# \xe9\n"), ("b.py", "x = 1\n")]


def test_gpt_sees_no_later_byte() -> None:
    """Logits up to a position stay the same when the bytes after it change, through convolution and attention."""
    torch = pytest.importorskip("torch")
    from models.gpt import GPT

    torch.manual_seed(0)
    gpt = GPT(layers=2, width=32, heads=2)
    for parameter in gpt.parameters():  # the blocks begin as zero
        torch.nn.init.normal_(parameter, std=0.1)
    text = torch.randint(256, (1, 20))
    other = text.clone()
    other[:, 12:] = (other[:, 12:] + 1) % 256
    before, after = gpt(text), gpt(other)
    assert torch.allclose(before[:, :12], after[:, :12], atol=1e-6)
    assert (before[:, 12:] - after[:, 12:]).abs().min() > 0


def test_gpt_writes_the_same_again() -> None:
    """What it writes begins with the start, is as long as asked, and is the same for the same seed."""
    torch = pytest.importorskip("torch")
    from models.gpt import GPT

    torch.manual_seed(0)
    gpt = GPT(layers=1, width=16, heads=2)
    written = gpt.write(b"def ", 9, context=6, seed=3)
    assert written.startswith(b"def ")
    assert len(written) == 13
    assert gpt.write(b"def ", 9, context=6, seed=3) == written


# -- flight_delay ----------------------------------------------------------------------------------------------------


def flights(**columns: list[Any]) -> pa.Table:
    """Flights as the dataset has them, of which only the given columns matter."""
    rows = len(next(iter(columns.values())))
    usual: dict[str, Any] = {
        "flight_id": 0, "year": 2013, "month": 1, "day": 1, "hour": 5, "minute": 0, "carrier": "UA", "origin": "EWR",
        "distance": 1000, "dep_delay": 0, "dep_time": 500, "arr_time": 700, "arr_delay": 0, "air_time": 100,
        "time_hour": datetime.datetime(2013, 1, 1, 10, tzinfo=datetime.UTC),
    }  # fmt: skip
    return pa.table({name: columns.get(name, [value] * rows) for name, value in usual.items()})


def test_no_flight_tells_of_itself() -> None:
    """A flight counts as gone only from a later hour than its own on, however early or late it leaves."""
    job = load("jobs/flight_delay.py")
    delays = [-43, -1, 0, 1, 14, 15, 74, 75, 1301, None]
    table = job.with_hours(flights(minute=[45] * len(delays), dep_delay=delays))
    later = pc.subtract(table["left_by"], table["at"])
    assert later.to_pylist() == [1, 1, 1, 1, 1, 2, 2, 3, 23, None]
    early = job.with_hours(flights(minute=[0, 0, 59], dep_delay=[-1, -43, -60]))
    assert pc.subtract(early["left_by"], early["at"]).to_pylist() == [1, 1, 1]
    assert job.only_departed(table).num_rows == len(delays) - 1


def test_weather_is_that_of_the_hour_before() -> None:
    """An observation is joined to the flights that are scheduled for the hour after it."""
    job = load("jobs/flight_delay.py")
    at = datetime.datetime(2013, 1, 1, 9, tzinfo=datetime.UTC)
    weather = pa.table({"origin": ["EWR"], "time_hour": [at], **{name: [1.5] for name in job.WEATHER}})
    seen = job.attach(job.with_hours(flights(hour=[5, 5], origin=["EWR", "JFK"])), job.weather_before(weather))
    assert {row["origin"]: row["temp"] for row in seen.to_pylist()} == {"EWR": 1.5, "JFK": None}


def known(job: ModuleType, **columns: list[Any]) -> dict[str, np.ndarray]:
    """A batch for `features`, as the stage before it writes it."""
    table = job.with_hours(flights(**columns)).drop_columns(["left_by"])
    facts = {"planned_departures": 20, "recent_departures": 18, "recent_delay": 10.0, **dict.fromkeys(job.WEATHER, 5.0)}
    facts |= {name: value for name, value in columns.items() if name in facts}
    batch = {name: np.array(table[name].to_pylist()) for name in table.column_names}
    return batch | {k: np.full(table.num_rows, v, "float64") for k, v in facts.items()}


def test_only_the_schedule_survives_the_join() -> None:
    """Of a flight's own columns nothing but its schedule and the delay to predict goes on to the features."""
    job = load("jobs/flight_delay.py")
    own = set(job.with_hours(flights(hour=[5])).column_names) - {"at", "left_by"}
    assert own == {*job.SCHEDULE, "dep_delay"}


def test_features_do_not_depend_on_the_delay() -> None:
    """The delay is what is predicted: changing it changes no category and no number."""
    job = load("jobs/flight_delay.py")
    one = job.features(known(job, hour=[5, 6], dep_delay=[0, 3]), job.Config())["train"]
    two = job.features(known(job, hour=[5, 6], dep_delay=[99, -7]), job.Config())["train"]
    assert (one["categories"] == two["categories"]).all()
    assert (one["numbers"] == two["numbers"]).all()
    assert two["delay"].tolist() == [99, -7]


def test_features_are_in_the_order_of_their_names() -> None:
    """Categories are carrier, hour, origin and weekday below their sizes; a missing number is a usual one."""
    job = load("jobs/flight_delay.py")
    batch = known(job, month=[1, 12], day=[1, 31], hour=[5, 23], carrier=["9E", "YV"], origin=["EWR", "LGA"])
    batch["pressure"][0], batch["distance"][:] = np.nan, 1700
    sides = job.features(batch, job.Config(held_out_from=10))
    assert sides["train"]["categories"].tolist() == [[0, 5, 0, datetime.date(2013, 1, 1).weekday()]]
    assert sides["validation"]["categories"].tolist() == [[15, 23, 2, datetime.date(2013, 12, 31).weekday()]]
    assert (sides["validation"]["categories"] < job.SIZES).all()
    numbers = dict(zip(job.NUMBERS, sides["train"]["numbers"][0].tolist(), strict=True))
    assert numbers["pressure"] == 0
    assert numbers["distance"] == 1
    assert numbers["minute_of_day"] == pytest.approx((300 - 800) / 300)


def test_cancelled_flights_are_filtered() -> None:
    """A flight without a delay never left."""
    job = load("jobs/flight_delay.py")
    assert job.departed({"dep_delay": np.array([1.0, np.nan, -3.0])}, job.Config()).tolist() == [True, False, True]


def test_baselines_of_parts_add_up() -> None:
    """Mean and median of a group and least squares are numpy's, when two ranks have seen half of the rows each."""
    torch = pytest.importorskip("torch")
    from models.baselines import Baselines

    draw = np.random.default_rng(0)
    categories = np.stack([draw.integers(0, 3, 401), draw.integers(0, 2, 401)], axis=1)
    numbers, delay = draw.normal(size=(401, 2)), draw.integers(-20, 200, 401)
    rows = [torch.from_numpy(part) for part in (categories, numbers, delay)]
    first, second = Baselines((3, 2), 2), Baselines((3, 2), 2)
    first.add(*(part[:150] for part in rows))
    second.add(*(part[150:] for part in rows))
    first.counts += second.counts
    first.gram += second.gram
    found = {name: predict(rows[0], rows[1]).numpy() for name, predict in first.predictors().items()}

    groups = categories[:, 0] * 2 + categories[:, 1]
    inputs = np.concatenate([np.eye(3)[categories[:, 0]], np.eye(2)[categories[:, 1]], numbers], axis=1)
    for group in range(6):
        mine = groups == group
        assert np.allclose(found["group_mean"][mine], delay[mine].mean())
        assert np.allclose(found["group_median"][mine], np.quantile(delay[mine], 0.5, method="inverted_cdf"))
    assert np.allclose(found["linear"], inputs @ np.linalg.lstsq(inputs, delay)[0])


def test_a_new_group_gets_the_overall_mean() -> None:
    """A carrier and hour that were never seen together are predicted as all flights are."""
    torch = pytest.importorskip("torch")
    from models.baselines import Baselines

    plain = Baselines((2, 2), 1)
    plain.add(torch.tensor([[0, 0], [0, 1], [0, 1]]), torch.zeros(3, 1), torch.tensor([10.0, 20.0, 90.0]))
    new = (torch.tensor([[1, 1]]), torch.zeros(1, 1))
    predictors = plain.predictors()
    assert predictors["group_mean"](*new).tolist() == [40.0]
    assert predictors["group_median"](*new).tolist() == [20.0]
