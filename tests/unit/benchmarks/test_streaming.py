"""`benchmarks.streaming`: what it counts, what it computes of it, and that contestants deliver all rows."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.streaming import prep, results, resume, rounds
from benchmarks.streaming.cases import case_of
from benchmarks.streaming.main import main
from benchmarks.streaming.processes import TAG, Sampler, cpu_seconds
from benchmarks.streaming.report import markdown, plot
from benchmarks.streaming.results import Result
from benchmarks.streaming.sources import Source
from benchmarks.streaming.touch import Tally
from benchmarks.streaming.works import WORKS, write

BYTES = [b"12345678", b"", b"abcdefghijkl"]
FORMS: dict[str, Any] = {
    "list of bytes": BYTES,
    "binary": pa.array(BYTES, pa.binary()),
    "large binary, cut": pa.array([b"before", *BYTES, b"after"], pa.large_binary()).slice(1, 3),
    "chunks": pa.chunked_array([pa.array(BYTES[:2]), pa.array(BYTES[2:])]),
    "numpy": np.frombuffer(b"".join(BYTES), np.uint8),
    "every second of a numpy array": np.repeat(np.frombuffer(b"".join(BYTES), np.uint32), 2)[::2],
    "list": pa.array([[1, 2]], pa.list_(pa.int32())),
}


def seen(*values: Any) -> tuple[int, int]:
    """Bytes and checksum of values."""
    tally = Tally()
    for value in values:
        tally.add([], [value])
    return tally.payload, tally.checksum


@pytest.mark.parametrize("form", [name for name in FORMS if name != "list"])
def test_the_same_bytes_count_the_same(form: str) -> None:
    """The bytes and the checksum of values are the same in whatever form they are delivered."""
    assert seen(FORMS[form]) == seen(FORMS["numpy"]) == (20, seen(FORMS["numpy"])[1])


def test_a_changed_byte_is_seen() -> None:
    """The checksum does not depend on order or cut, and does on every byte."""
    rows = np.random.default_rng(0).integers(0, 1 << 31, (6, 3), dtype=np.int32)
    whole = seen(rows)
    assert seen(rows[::-1]) == seen(*rows) == seen(rows[:1], rows[1:]) == whole
    for at in range(rows.nbytes):
        changed = rows.copy()
        changed.view(np.uint8).reshape(-1)[at] ^= 1
        assert seen(changed) != whole


def test_lists_are_their_values() -> None:
    """Of a column of lists the values count, not the offsets."""
    assert seen(FORMS["list"]) == seen(np.array([1, 2], np.int32))


def test_numbers_of_python_are_refused() -> None:
    """Whoever delivers lists of Python's numbers has delivered nothing that can be trained on."""
    with pytest.raises(TypeError):
        seen([1, 2, 3])


def test_missing_and_repeated_ids_are_counted() -> None:
    """An id that is missing, comes twice or is none of the data's is seen."""
    tally = Tally()
    tally.add(np.array([0, 1, 1]), [])
    tally.add(pa.array([3, 9]), [])
    assert tally.check(4) == (1, 2)


def result(rival: str, number: int, second: float | None, **others: Any) -> Result:
    """A result with a rate."""
    values: dict[str, Any] = {"second_MBs": second, "first_MBs": second, "exact": True, "shuffled": True, **others}
    return Result("work", "local", rival, number, **values)


def test_ratios_are_taken_within_rounds() -> None:
    """A ratio is the median over the counted rounds of ours over the best of the others in the same round."""
    found = [
        *(result("limit:threads=1,pieces=0", n, rate) for n, rate in enumerate([1.0, 100.0, 50.0, 10.0])),
        *(result("limit:threads=1,pieces=32", n, rate) for n, rate in enumerate([1.0, 80.0, 60.0, 20.0])),
        *(result("runner", n, rate, peak_MB=7.0 if n == 0 else None) for n, rate in enumerate([9e9, 50.0, 60.0, 30.0])),
        *(result("slow", n, rate) for n, rate in enumerate([9e9, 10.0, 20.0, 5.0])),
        *(result("in order", n, rate, shuffled=False) for n, rate in enumerate([9e9, 5.0, 30.0, 15.0])),
        result("broken", 0, None, error="no such thing"),
    ]
    by_name = {line.rival: line for line in results.lines(found)}
    ours = by_name["runner"]
    assert (ours.rounds, ours.to_one, ours.to_all, ours.to_best, ours.median["second_MBs"]) == (3, 1.0, None, 2.0, 50.0)
    assert (ours.to_shuffling, ours.shuffled) == (5.0, True)
    assert ours.median["peak_MB"] == 7.0
    assert by_name["slow"].to_shuffling is None
    assert (by_name["broken"].rounds, by_name["broken"].error) == (0, "no such thing")


def test_of_processor_time_less_is_better() -> None:
    """The ratio of processor time is the least that a limit on one thread took over what this one took."""
    found = [
        result("limit:threads=1,pieces=0", 1, 1.0, second_cpu=2.0),
        result("limit:threads=1,pieces=32", 1, 1.0, second_cpu=1.0),
        result("runner", 1, 1.0, second_cpu=4.0),
    ]
    assert [line.cpu for line in results.lines(found)] == [0.5, 1.0, 0.25]


def test_a_round_without_its_partner_has_no_ratio() -> None:
    """A contestant that failed in a round takes no part in that round's ratios."""
    found = [result("runner", 1, 10.0), result("runner", 2, 40.0), result("other", 1, 5.0)]
    assert results.lines(found)[0].to_best == 2.0


def test_what_was_saved_is_read_again(tmp_path: Path) -> None:
    """The raw numbers make the same table when they are read again; table and plot name each contestant."""
    found = [result("runner", 1, 10.0), result("other", 1, 5.0, exact=False), result("bad", 0, None, error="a|b")]
    results.save(found, tmp_path)
    lines = results.lines(results.load(tmp_path / "raw.json"))
    assert lines == results.lines(found)
    text = markdown(lines)
    assert "| runner | shuffled | 10 | 10 |" in text
    assert "**not exact**" in text
    assert "| bad | a/b |" in text
    plot(lines, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("work", "rival"),
    [
        ("jpeg-tar", "runner:as=numpy"),
        ("jpeg", "limit:threads=1,pieces=32"),
        ("jpeg-tar", "limit:threads=2,pieces=0"),
    ],
)
def test_all_rows_come(work: str, rival: str, tmp_path: Path) -> None:
    """In a process of their own, runner and the limit deliver each row once in each pass, as it was written."""
    written = write(WORKS[work].dataset, tmp_path, 4)
    one = rounds.measure(sys.executable, case_of(work, Source("local"), rival, written, 2), 0)
    assert one.error is None
    assert one.exact
    assert one.second_MBs
    if one.peak_MB is not None or rival.startswith("runner"):  # a bare loop may be through before it is looked at
        assert (one.peak_MB or 0) >= (one.idle_MB or 0) > 0


def test_the_command_writes_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One command measures a case, tells who cannot do it, and leaves table, plot and raw numbers."""
    contestants = ["limit:threads=1,pieces=32", "runner:as=numpy", "webdataset"]
    told = ["--cases", "tokens-list-zstd@local", "--rivals", *contestants, "--megabytes", "4", "--rounds", "1"]
    monkeypatch.setattr(sys, "argv", ["streaming", *told, "--out", str(tmp_path)])
    main()
    found = {line.rival: line for line in results.lines(results.load(tmp_path / "raw.json"))}
    assert list(found) == contestants
    assert found["webdataset"].error == "reads tar alone"
    assert found["runner:as=numpy"].exact
    assert found["runner:as=numpy"].to_one
    assert "| runner:as=numpy | shuffled |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "plot.png").exists()


def test_another_checksum_is_seen(tmp_path: Path) -> None:
    """A contestant whose bytes are not those that were written is not exact."""
    written = write(WORKS["tokens-list-zstd"].dataset, tmp_path, 4)
    written.checksum["tokens"] ^= 1
    case = case_of("tokens-list-zstd", Source("local"), "limit:threads=1,pieces=0", written, 1)
    assert rounds.measure(sys.executable, case, 1).exact is False


def test_processes_are_found_by_their_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processor time and memory are those of the processes with the tag, whoever their parent is."""
    import subprocess

    code = "import sys; n = sum(range(3_000_000)); x = bytearray(50 << 20); print(1, flush=True); sys.stdin.read()"
    monkeypatch.setenv(TAG, "one")
    with Sampler("one", 0.01) as sampler:
        process = subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, env=dict(os.environ))
        assert process.stdout
        assert process.stdout.readline()
        used, others = cpu_seconds("one"), cpu_seconds("another")
        while sampler.peak(0, 1e18) < 50 << 20:
            assert process.poll() is None
        process.communicate()
    assert used > 0
    assert others == 0


def test_a_rest_is_exact_only_in_its_order() -> None:
    """What comes after a resume is exact if it is what was left, in that order, and no less and no more."""
    left = np.array([5, 3, 4])
    assert resume.compare(left, np.array([5, 3, 4])) == {"exact": True, "same_rows": True}
    assert resume.compare(left, np.array([3, 4, 5])) == {"exact": False, "same_rows": True}
    assert resume.compare(left, np.array([5, 3])) == resume.compare(left, np.array([5, 3, 9]))
    assert not resume.compare(left, np.array([5, 3]))["same_rows"]


def test_what_is_read_again_is_told() -> None:
    """Bytes beyond the share that was left are the ones read again; who cannot resume is named with the reason."""
    parts = {"whole": {"bytes": 100_000_000}, "50": {"bytes": 60_000_000, "seen": 50, "seconds": 0.5, "exact": True}}
    text = resume.table({"runner": parts, "other": {"whole": {"refused": "cannot"}}}, 100)
    assert "| runner | 50 % | 0.50 | 10 | exactly the rest |" in text
    assert "| other | cannot |" in text


def test_preparations_are_compared_within_rounds() -> None:
    """Speeds are those of the payload, ratios are within a round, and other results than the rest's are told."""
    one = {"cpu_s": 1.0, "whole_s": 3.0, "rows": 4, "checksum": 7}
    found = [
        {"rival": "pyarrow:workers=1", "round": 0, "seconds": 1.0, **one},
        {"rival": "runner:workers=1", "round": 0, "seconds": 2.0, **one},
        {"rival": "broken", "round": 0, "error": "no"},
    ]
    assert "| runner:workers=1 | 50 | 10.0 | 0.50 |  | 3.0 | the same |" in prep.table(found, 100_000_000)
    assert "| broken | no |" in prep.table(found, 100_000_000)
    assert "**differ**" in prep.table([*found, {**found[1], "checksum": 8}], 100_000_000)


def test_a_runner_resumes_exactly(tmp_path: Path) -> None:
    """The states that the benchmark keeps lead a fresh process to exactly the rest."""
    written = write(WORKS["tokens-list-zstd"].dataset, tmp_path, 4)
    case = case_of("tokens-list-zstd", Source("local"), "runner:as=numpy", written, 1)
    assert rounds.spawn(sys.executable, case, str(tmp_path), "whole", module="resume")["bytes"] > 0
    assert rounds.spawn(sys.executable, case, str(tmp_path), "50", module="resume")["exact"]
