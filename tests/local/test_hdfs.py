"""Data on a real HDFS: Hadoop's own cluster of tests, in one process of Java, by the scheme `webhdfs://`."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import runner
from runner.client.run import RunState
from runner.errors import DataError
from runner.onebox import build

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]  # it brings 100 MB of Java
SOURCES = Path(__file__).with_name("hdfs")
ROWS = 300
JOB = """
from runner import Dataset, Job, Prep

def double(batch, config):
    return {{"y": batch.column("x").to_numpy() * 2}}

job = Job("small", [Prep("double", fn=double, source=Dataset("{url}"), sink="doubled", workers=2)])
"""


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a folder with three Parquet files of four row groups each."""
    command = ["java", "-cp", f"{_jars()}/*", str(SOURCES / "Cluster.java"), str(tmp_path_factory.mktemp("hdfs"))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout is not None
        try:
            host = next((line.split()[1] for line in process.stdout if line.startswith("ready ")), "")
            assert host, "HDFS ended before it was ready"
            threading.Thread(target=process.stdout.read, daemon=True).start()  # its log
            _write(host)
            yield f"webhdfs://{host}/lake"
        finally:
            process.kill()


def _jars() -> Path:
    """The folder of Hadoop's jars, fetched by Maven once and kept in the user's cache."""
    for needed in ("java", "mvn"):
        if shutil.which(needed) is None:
            pytest.skip(f"no HDFS: there is no `{needed}` here")
    folder = build.cache() / "hadoop-minicluster-3.4.2"
    folder.mkdir(parents=True, exist_ok=True)
    with build.locked(folder / ".lock"):
        if not (folder / "jars").exists():
            with tempfile.TemporaryDirectory(dir=folder, prefix=".fetch-") as beside:
                command = ["mvn", "-q", "-B", "-f", str(SOURCES / "pom.xml"), "dependency:copy-dependencies"]
                done = subprocess.run(
                    [*command, f"-DoutputDirectory={beside}/jars"], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    pytest.skip(f"no HDFS: Maven cannot fetch it: {done.stdout[-500:]}")
                Path(beside, "jars").rename(folder / "jars")
    return folder / "jars"


def _write(host: str) -> None:
    name, port = host.split(":")
    fs = fsspec.filesystem("webhdfs", host=name, port=int(port))
    fs.makedirs("/lake", exist_ok=True)
    for number in range(3):
        with fs.open(f"/lake/{number}.parquet", "wb") as file:
            rows = range(number * 100, number * 100 + 100)
            pq.write_table(pa.table({"x": pa.array(rows, pa.int64())}), file, row_group_size=25)


def test_a_stream_reads_hdfs(lake: str) -> None:
    """Every row once, in an order that is the same when it is read again, and in file order where nothing is mixed."""
    orders = []
    for shuffle in (False, True, True):
        stream = runner.Stream(lake, batch_size=20, shuffle=shuffle, as_="numpy")
        orders.append([int(x) for batch in stream for x in batch["x"]])
    assert orders[0] == list(range(ROWS))
    assert sorted(orders[1]) == orders[0] != orders[1] == orders[2]
    with pytest.raises(DataError, match="no such file or folder"):
        runner.Stream(f"{lake}/none", batch_size=20)


def test_a_preparation_reads_hdfs(lake: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its workers open the files for themselves."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/small.py").write_text(JOB.format(url=lake))
    monkeypatch.chdir(tmp_path)
    run = runner.submit("small", store=str(tmp_path / "store"))
    assert run.wait(180) is RunState.SUCCEEDED
    made = runner.dataset("doubled", store=str(tmp_path / "store"))
    assert sorted(made.to_table().column("y").to_pylist()) == [*range(0, 2 * ROWS, 2)]
