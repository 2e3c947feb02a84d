"""What is known of data, and what is measured, on files of several kinds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.data.manifest import build
from runner.data.source_manifest import Source
from runner.data.survey import rates
from runner.data.survey.sample import sampled, spread_out
from runner.data.survey.survey import Survey, survey
from runner.errors import DataError
from tests.unit.data.kit import register_remote

ROWS = 4000


@pytest.fixture
def table() -> pa.Table:
    """Numbers with nulls, words that repeat, lists."""
    return pa.table(
        {
            "id": pa.array([None if i % 4 == 0 else i for i in range(ROWS)]),
            "word": [f"w{i % 3}" for i in range(ROWS)],
            "inner.list": pa.array([[i] * (i % 50) for i in range(ROWS)], pa.list_(pa.int32())),
        }
    )


def look(path: object) -> Survey:
    return survey(Source((str(path),)))


def test_footers_tell_columns(table: pa.Table, tmp_path: Path) -> None:
    """Sizes, encodings, codecs and nulls are the sums of all row groups; of lists the nulls are not told."""
    for i in range(2):
        pq.write_table(table, tmp_path / f"{i}.parquet", compression="zstd", row_group_size=1000)
    seen = look(tmp_path)
    assert (seen.format, seen.files, seen.rows, seen.units.count) == ("parquet", 2, 2 * ROWS, 8)
    assert (seen.units.rows.smallest, seen.units.rows.largest) == (1000, 1000)  # type: ignore[union-attr]
    by_name = {column.name: column for column in seen.columns}
    assert by_name["id"].nulls == 2 * ROWS // 4
    assert by_name["id"].decoded == 2 * ROWS * 8
    assert by_name["word"].codecs == ("ZSTD",)
    assert "RLE_DICTIONARY" in by_name["word"].encodings
    assert by_name["inner.list"].nulls is None
    metadata = pq.read_metadata(tmp_path / "0.parquet")
    chunks = [metadata.row_group(g).column(2).total_compressed_size for g in range(metadata.num_row_groups)]
    assert by_name["inner.list"].stored == 2 * sum(chunks)


def test_page_checksums_are_seen_where_they_are(table: pa.Table, tmp_path: Path) -> None:
    """Headers of pages tell whether damage would be seen."""
    for name, checksums in (("with", True), ("without", False)):
        (tmp_path / name).mkdir()
        pq.write_table(table, tmp_path / name / "a.parquet", write_page_checksum=checksums)
    assert look(tmp_path / "with").checks.checked == look(tmp_path / "with").checks.pages > 0
    without = look(tmp_path / "without").checks
    assert (without.checked, without.hashes) == (0, 1)
    assert without.pages > 0


def test_rates_are_measured_on_every_format(table: pa.Table, tmp_path: Path) -> None:
    """Whatever the format: a sample is fetched, decoded, streamed and encoded anew, and every rate is above none."""
    pq.write_table(table, tmp_path / "a.parquet")
    with pa.ipc.new_file(tmp_path / "a.arrow", table.schema) as writer:
        writer.write_table(table)
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in table.to_pylist()))
    (tmp_path / "a.txt").write_text("one\ntwo\n")
    for name in ("a.parquet", "a.arrow", "a.jsonl", "a.txt"):
        seen = look(tmp_path / name)
        assert seen.rates is not None, name
        assert seen.encoded is not None, name
        assert min(seen.rates.fetch, seen.rates.stream, seen.rates.stream_cpu, seen.encoded.decode) > 0, name
        assert seen.rates.decode, name
        assert not seen.rates.remote
        assert seen.rates.as_ == ("arrow" if "txt" not in name else "numpy")  # arrays hold no null numbers


def test_a_process_that_gets_faster_is_no_gain_of_another_encoding(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data as it is and its trial are decoded in turns, so that what makes the second one faster does for both."""
    pq.write_table(table, tmp_path / "a.parquet")
    is_warm = False

    def timed(*_: Any, known: Any = rates._from_memory) -> rates.Decoded:
        found = known(*_)
        return replace(found, decode_s=found.bytes / 1e9 * (1 if is_warm else 2))

    def streamed(*_: Any) -> tuple[tuple[float, float], str]:
        nonlocal is_warm
        is_warm = True
        return (1e9, 1e-9), "numpy"

    monkeypatch.setattr(rates, "_from_memory", timed)
    monkeypatch.setattr(rates, "_streamed", streamed)
    seen = look(tmp_path)
    assert seen.rates is not None
    assert seen.encoded is not None
    assert seen.rates.decode == pytest.approx(1e9) == seen.encoded.decode


def test_remote_files_are_measured_apart_from_the_network(
    table: pa.Table, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Of a remote Parquet file the decoding is measured from memory; of remote lines it is not told."""
    remote = register_remote(monkeypatch)()
    pq.write_table(table, tmp_path / "a.parquet")
    remote.pipe_file("/lake/a.parquet", (tmp_path / "a.parquet").read_bytes())
    remote.pipe_file("/lines/a.jsonl", b'{"a": 1}\n' * 100)
    seen = look("remote://lake/a.parquet").rates
    assert seen is not None
    assert seen.remote
    assert seen.decode
    lines = look("remote://lines/a.jsonl").rates
    assert lines is not None
    assert lines.decode is None
    assert lines.stream > 0


def test_a_sample_is_from_everywhere_within_its_bytes(table: pa.Table, tmp_path: Path) -> None:
    """Units are taken evenly, as many as fit; lanes and blocks stay those of the whole."""
    for i in range(10):
        pq.write_table(table, tmp_path / f"{i}.parquet", row_group_size=400)
    manifest = build(str(tmp_path))
    unit = manifest.units[0][1].bytes
    part = sampled(manifest, 10 * unit)
    assert 5 <= len(part.units) <= 10
    assert len({shard.path for shard in part.shards}) >= 5
    assert (part.lanes, part.block_bytes) == (manifest.lanes, manifest.block_bytes)
    assert len(sampled(manifest, 1).units) == 1
    assert list(spread_out(range(100), 4)) == [0, 25, 50, 75]


def test_no_rows_and_damage(table: pa.Table, tmp_path: Path) -> None:
    """Of a file without rows nothing is measured; a damaged one is an error that names it."""
    pq.write_table(table.slice(0, 0), tmp_path / "empty.parquet")
    seen = look(tmp_path / "empty.parquet")
    assert (seen.rows, seen.rates, seen.encoded) == (0, None, None)
    pq.write_table(table, tmp_path / "bad.parquet", write_page_checksum=True, compression="none", use_dictionary=False)
    data = bytearray((tmp_path / "bad.parquet").read_bytes())
    data[500:600] = bytes(100)
    (tmp_path / "bad.parquet").write_bytes(data)
    with pytest.raises(DataError, match=r"bad\.parquet"):
        look(tmp_path / "bad.parquet")


def test_lines_that_are_not_counted_are_measured_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of lines beyond what is read beforehand the rows are not told; the sample's are, for it is decoded."""
    monkeypatch.setattr("runner.data.survey.survey._COUNTED_BYTES", 0)
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' * 5000)
    seen = look(tmp_path / "a.jsonl")
    assert (seen.rows, seen.units.rows) == (None, None)
    assert seen.rates is not None
    assert seen.rates.rows == 5000
    assert seen.rates.stream > 0


def test_huge_units_are_not_decoded_for_a_trial_too(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What takes long to decode is decoded for its own rate alone."""
    pq.write_table(table, tmp_path / "a.parquet")
    assert look(tmp_path).encoded.beside is not None  # type: ignore[union-attr]
    monkeypatch.setattr(rates, "_TURNS_BYTES", 1000)
    assert look(tmp_path).encoded.beside is None  # type: ignore[union-attr]
