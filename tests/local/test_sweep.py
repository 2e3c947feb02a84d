"""The sweep: every kind of file that pyarrow, DuckDB, Polars, pandas, Dask, Ray, Hugging Face's datasets, WebDataset
and Spark write, read by Stream and by Prep.

`make soak` installs the writers (the extra `sweep`); Spark wants a Java besides.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.local import sweep_frames, sweep_others, sweep_pyarrow
from tests.local.sweep_kit import Verdict, sweep

pytestmark = [pytest.mark.soak, pytest.mark.timeout(1800)]

#: Cases that are refused with a clear error, each for its reason.
_REFUSED = {
    r".*empty.*": "no rows",
    r"parquet-no-columns|spark-parquet-none-.*": "no rows|no columns",
    r"duckdb-json-array": "no JSON object",
    r"spark-(json|csv|text)-(deflate|snappy)": "compressed or packed",
    r"spark-(json|csv|text)-lz4": "cannot be decoded|cannot be read",
    r"spark-orc": "no single format",
    r"(ipc|polars)-.*(nullable|null_lists|nulls)": "nulls in a column",
    r"parquet-.*-(nullable|null_lists)": "nulls in a column",
    r"ipc-.*-(interval|sparse_union)|spark-.*-intervals": "cannot be written|cannot hold|nulls|interval",
}


def judged(cases: dict[str, Callable[[Path], Any]], root: Path) -> list[Verdict]:
    """The verdicts that are wrong."""
    folders = sweep_pyarrow.write(cases, root)
    assert folders
    verdicts = sweep(folders)
    assert len({one.case for one in verdicts}) == len(folders)
    return [one for one in verdicts if not _right(one)]


def _right(verdict: Verdict) -> bool:
    reasons = [words for names, words in _REFUSED.items() if re.fullmatch(names, verdict.case)]
    if verdict.what == "refused":
        return any(re.search(words, verdict.said) for words in reasons)
    return verdict.what == "same"


@pytest.mark.parametrize("kind", ["parquet", "ipc"])
def test_pyarrow(tmp_path: Path, kind: str) -> None:
    """What pyarrow writes is read with its values."""
    cases = sweep_pyarrow.parquet_cases(False) if kind == "parquet" else sweep_pyarrow.ipc_cases(False)
    assert not judged(cases, tmp_path)


def test_text(tmp_path: Path) -> None:
    """What Python's csv and json write is read with its values."""
    assert not judged(sweep_others.text_cases(), tmp_path)


def test_duckdb(tmp_path: Path) -> None:
    """What DuckDB writes is read with its values."""
    pytest.importorskip("duckdb")
    assert not judged(sweep_others.duckdb_cases(), tmp_path)


def test_polars(tmp_path: Path) -> None:
    """What Polars writes is read with its values."""
    pytest.importorskip("polars")
    assert not judged(sweep_others.polars_cases(), tmp_path)


def test_pandas(tmp_path: Path) -> None:
    """What pandas writes is read with its values."""
    pytest.importorskip("pandas")
    assert not judged(sweep_frames.pandas_cases(), tmp_path)


def test_dask(tmp_path: Path) -> None:
    """What Dask writes is read with its values."""
    pytest.importorskip("dask.dataframe")
    assert not judged(sweep_frames.dask_cases(), tmp_path)


def test_hugging_face(tmp_path: Path) -> None:
    """What Hugging Face's datasets write is read with its values."""
    pytest.importorskip("datasets")
    assert not judged(sweep_frames.hub_cases(), tmp_path)


def test_webdataset(tmp_path: Path) -> None:
    """What WebDataset's writer packs is read as WebDataset reads it."""
    pytest.importorskip("webdataset")
    assert not judged(sweep_frames.webdataset_cases(), tmp_path)


@pytest.mark.ray
def test_ray(tmp_path: Path) -> None:
    """What Ray Data writes is read with its values."""
    ray = pytest.importorskip("ray")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        assert not judged(sweep_frames.ray_cases(pytest.importorskip("ray.data")), tmp_path)
    finally:
        ray.shutdown()


@pytest.fixture
def spark() -> Iterator[Any]:
    sql = pytest.importorskip("pyspark.sql")
    if shutil.which("java") is None:
        pytest.skip("Spark wants a Java")
    settings = {"spark.ui.enabled": "false", "spark.sql.session.timeZone": "UTC", "spark.driver.memory": "1g"}
    session = sql.SparkSession.builder.master("local[2]").config(map=settings).getOrCreate()
    session.sparkContext.setLogLevel("OFF")
    yield session
    session.stop()


def test_spark(tmp_path: Path, spark: Any) -> None:
    """What Spark writes is read with its values."""
    assert not judged(sweep_others.spark_cases(spark), tmp_path)


def test_damaged(tmp_path: Path) -> None:
    """Damaged files are refused, or read as pyarrow reads them; none ends in a raw error, a crash or a hang."""
    verdicts = sweep(sweep_pyarrow.write(sweep_pyarrow.damaged_cases(), tmp_path))
    refused = [one for one in verdicts if one.what == "refused" or " is refused: DataError" in one.said]
    assert not [one for one in verdicts if one.what != "same" and one not in refused]
