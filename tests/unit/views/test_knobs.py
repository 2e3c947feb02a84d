"""Which knob of a stream helps."""

from __future__ import annotations

from dataclasses import replace

from runner.data.survey.bench import Result, Setting
from runner.views.knobs import knobs, of_limit, shown
from tests.unit.views.test_advice import MB, RATES


def result(threads: int, speed: float, shuffle: bool = True, as_: str = "numpy") -> Result:
    return Result(Setting(threads, shuffle, as_), 0.1, 1.0, 100, speed * MB, 100.0, 0.5, 2.0, MB)


def test_a_setting_is_called_faster_when_it_is() -> None:
    """Each setting is compared with the first; a tenth is no difference, for two runs of the same differ by it."""
    found = knobs([result(2, 100), result(1, 60), result(2, 200, shuffle=False), result(2, 130, as_="arrow")], RATES)
    assert [words.partition(" is ")[0] for words in found[:2]] == ["shuffle=False", 'as_="arrow"']
    assert "2.0 times" in found[0]
    found = knobs([result(2, 100), result(1, 60), result(2, 105, shuffle=False)], RATES)
    assert found[0] == "no knob makes it faster than 2 threads, shuffled, numpy"


def test_threads_that_bring_nothing_are_told() -> None:
    """Where one thread is as fast as two, or faster, that is the advice."""
    assert knobs([result(2, 100), result(1, 98)], RATES)[0].startswith("threads=1 is enough")
    assert knobs([result(2, 100), result(1, 150)], RATES)[0] == "threads=1 is 1.5 times as fast"


def test_the_limit_is_what_threads_can_decode() -> None:
    """The last word is how far the stream is from decoding alone, with as many threads."""
    assert of_limit(result(2, 400), RATES) == 0.5
    assert "only another encoding" in knobs([result(2, 700)], RATES)[-1]
    assert "50 %" in knobs([result(2, 400)], RATES)[-1]
    assert "cache" in knobs([result(2, 400)], replace(RATES, remote=True))[-1]
    assert of_limit(result(2, 400), replace(RATES, decode=None)) is None


def test_nothing_is_concluded_from_little() -> None:
    """Data that is read at once shows no rate."""
    assert len(knobs([result(2, 1), result(1, 100)], replace(RATES, decoded=1000))) == 1
    assert shown(Setting(1, False, "arrow")) == "1 thread, file order, arrow"
