"""`runner data head` and `cat`, on files and on what was published."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runner.client.sources import Told, named
from runner.data.catalog import Catalog
from runner.data.manifest import build
from runner.store import Store
from tests.unit.cli.kit import call, call_json


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a Parquet file of odd values, and lines."""
    monkeypatch.chdir(tmp_path.resolve())
    table = pa.table(
        {
            "id": pa.array([2**53 + 1, None, 3]),
            "text": ["a\x1b[31m\n" + "é" * 500, "", None],
            "image": [bytes(range(200)), b"", None],
            "tokens": pa.array([list(range(2048)), [], None]),
        }
    )
    pq.write_table(table, tmp_path / "odd.parquet")
    (tmp_path / "lines.jsonl").write_text("".join(f'{{"n": {i}}}\n' for i in range(100)))
    return tmp_path


def publish(folder: Path, name: str) -> str:
    """The Parquet file as a version of a dataset; gives its id."""
    store = Store(str(folder / ".runner"))
    place = folder / f".runner/datasets/{name}/_versions/r261123-193231-example-9nb-1"
    place.mkdir(parents=True)
    (place / "odd.parquet").write_bytes((folder / "odd.parquet").read_bytes())
    manifest = build(str(place))
    Catalog(store).publish(name, manifest, {}, "_versions/r261123-193231-example-9nb-1")
    return manifest.id


def test_head_shortens_what_is_long_and_says_so(folder: Path) -> None:
    """Long text, bytes and lists end in how long they are; nothing of them reaches the terminal as it is."""
    wide = call("data", "head", "odd.parquet").stdout
    assert "9007199254740993" in wide
    assert "\x1b" not in wide
    assert len(wide) < 1500
    shown = call("data", "head", "odd.parquet", "--columns", "image,tokens").stdout
    assert "0x0001020304050607… (200 bytes)" in shown
    assert "[0, 1, 2, 3, 4, … (2,048 items)]" in shown
    shown = call("data", "head", "odd.parquet", "--columns", "text").stdout
    assert "\\x1b[31m\\né" in shown
    assert "… (507 characters)" in " ".join(shown.split())  # wherever the terminal's width breaks the line


def test_head_takes_the_first_rows_of_the_columns(folder: Path) -> None:
    """-n and --columns choose; the document has types, and every value whole."""
    document = call_json("data", "head", "odd.parquet", "-n", "2", "--columns", "tokens,id")
    assert document["columns"][1] == {"name": "id", "type": "int64"}
    assert [list(row) for row in document["rows"]] == [["tokens", "id"]] * 2
    assert document["rows"][0] == {"tokens": list(range(2048)), "id": 2**53 + 1}
    assert call_json("data", "head", "lines.jsonl", "-n", "0")["rows"] == []


@pytest.mark.parametrize(
    "words", [("head", "-n"), ("cat", "--limit"), ("bench", "--batch-size"), ("head", "--version")]
)
def test_numbers_that_nothing_counts(folder: Path, words: tuple[str, str]) -> None:
    """A number beyond 64 bit is refused with the option's name."""
    shown = call("data", words[0], "lines.jsonl", words[1], "99999999999999999999", code=2)
    assert words[1] in shown.stderr


def test_many_columns_are_counted_where_they_have_no_room(folder: Path) -> None:
    """The columns that do not fit into the lines are named below the table."""
    pq.write_table(pa.table({f"c{i}": [i / 7] for i in range(64)}), folder / "wide.parquet")
    shown = call("data", "head", "wide.parquet").stdout
    assert max(map(len, shown.splitlines()[:2])) <= 100
    assert "more columns:" in shown
    assert "c63" in shown


def test_head_looks_at_no_files_that_it_does_not_show(folder: Path) -> None:
    """A damaged file far behind the first rows does not matter to them; to all rows it does."""
    many = folder / "many"
    many.mkdir()
    for i in range(20):
        (many / f"{i:02d}.parquet").write_bytes((folder / "odd.parquet").read_bytes() if i < 19 else b"PAR1nothing")
    call("data", "head", "many")
    call("data", "cat", "many", code=2)


def test_cat_prints_each_row_as_a_line_of_json(folder: Path) -> None:
    """All rows of all files in order, or the first ones; each value as it is."""
    lines = [json.loads(line) for line in call("data", "cat", "lines.jsonl").stdout.splitlines()]
    assert lines == [{"n": i} for i in range(100)]
    assert len(call("data", "cat", "lines.jsonl", "--limit", "7").stdout.splitlines()) == 7
    (first, *_) = call("data", "cat", "odd.parquet", "--columns", "id").stdout.splitlines()
    assert first == '{"id": 9007199254740993}'


def test_cat_ends_quietly_when_the_reader_leaves(folder: Path) -> None:
    """A reader that leaves ends it with 141 and without a word."""
    with open(folder / "long.jsonl", "w") as file:
        file.writelines(f'{{"n": {i}}}\n' for i in range(200_000))
    command = [sys.executable, "-m", "runner", "data", "cat", "long.jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == '{"n": 0}\n'
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 141


def test_a_dataset_is_named_by_name_and_version(folder: Path) -> None:
    """NAME is the newest version, NAME@VERSION one, and `dataset:` tells a dataset from a file of its name."""
    found = publish(folder, "odd")
    for name in ("odd", f"odd@{found[:8]}", "dataset:odd"):
        assert len(call_json("data", "head", name)["rows"]) == 3
    (folder / "odd").mkdir()
    call("data", "head", "odd", code=2)  # the empty folder
    assert len(call_json("data", "head", "dataset:odd")["rows"]) == 3


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing"], "no file and no dataset 'nothing'"),
        (["nothing.parquet"], "no file and no dataset"),
        (["defined"], "datasets/defined.py is a definition: give the URL in it"),
        (["dataset:nothing"], "no dataset 'nothing'"),
        (["gone/nothing.parquet"], "gone"),
        (["odd.parquet", "--columns", "idd"], "no column 'idd'"),
        (["odd.parquet", "--columns", ","], "--columns"),
        (["odd.parquet", "--format", "excel"], "excel"),
        (["odd.parquet", "--option", "anon"], "key=value"),
        (["published", "--format", "csv"], "leave it out"),
        (["published", "--version", "1"], "published@ID"),
        (["odd.parquet", "--version", "1"], "format='delta'"),
        (["odd.parquet", "--snapshot", "1"], "format='iceberg'"),
        (["odd.parquet", "--csv", "delimiter"], "key=value"),
        (["odd.parquet", "--csv", "sep=;"], "'delimiter'"),
        (["empty.jsonl"], "only empty files"),
    ],
)
def test_what_cannot_be_looked_at_is_said(folder: Path, words: list[str], said: str) -> None:
    """Wrong input is told with what is allowed and what to do, and ends with 2."""
    (folder / "empty.jsonl").touch()
    (folder / "datasets").mkdir()
    (folder / "datasets" / "defined.py").write_text("from runner import Dataset\ndataset = Dataset('empty.jsonl')\n")
    publish(folder, "published")
    for command in ("head", "cat"):
        result = call("data", command, *words, code=2)
        assert said in result.stderr
        assert "to do:" in result.stderr


def test_files_are_looked_at_in_a_dialect_and_written_anew_as_they_were_looked_at(folder: Path) -> None:
    """A dialect of CSV is taken as `Dataset` has it, and the rewrite that is advised or submitted has it too."""
    (folder / "a.csv").write_text("1;0,5\n2;1,5\n")
    told = ["--csv", "delimiter=;", "--csv", "header=false", "--csv", 'names=["id","x"]', "--csv", "decimal=,"]
    assert call_json("data", "head", "a.csv", *told)["rows"] == [{"id": 1, "x": 0.5}, {"id": 2, "x": 1.5}]
    source = named("a.csv", Told(csv=tuple(told[1::2])))
    assert source.dataset().csv == {"delimiter": ";", "header": False, "names": ("id", "x"), "decimal": ","}
    assert source.told.words == tuple(told)
    call("data", "rewrite", "a.csv", "table", *told, "--dry-run")
    assert Told(option=("secret=abc", "anon=true")).words == ("--option", "anon=true")
    advised = call_json("data", "inspect", "odd.parquet", "--format", "parquet")["advice"][-1]["command"]
    assert advised[-3:] == ["odd-rewritten", "--format", "parquet"]


def test_a_version_of_a_table_is_looked_at(folder: Path) -> None:
    """`--version` chooses what a table was once, also of what is written anew."""
    deltalake = pytest.importorskip("deltalake")
    for n in range(2):
        deltalake.write_deltalake(str(folder / "table"), pa.table({"n": [n]}), mode="append")
    told = ["--format", "delta", "--version", "0"]
    assert call_json("data", "head", "table", *told)["rows"] == [{"n": 0}]
    assert named("table", Told("delta", version=0)).dataset().version == 0
    assert len(call_json("data", "head", "table", "--format", "delta")["rows"]) == 2


def test_looking_at_rows_loads_nothing_that_it_does_not_need(folder: Path) -> None:
    """Rows are shown without torch, ray and pandas; data is measured without torch and ray."""
    code = (
        "import sys\nfrom runner.cli.commands import app\n"
        "for command, heavy in (('head', 'pandas'), ('cat', 'pandas'), ('inspect', 'torch')):\n"
        "    try:\n        app(['data', command, 'odd.parquet'], prog_name='runner')\n"
        "    except SystemExit as left:\n        assert not left.code\n"
        "    assert not {'torch', 'ray', heavy} & set(sys.modules), command"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_inspect_says_what_data_is_like(folder: Path) -> None:
    """Facts, columns and advice on the screen; the same as one document."""
    shown = call("data", "inspect", "odd.parquet").stdout
    for words in (
        "parquet, 1 file",
        "1 row group",
        "no pages have checksums",
        "snappy",
        "runner data rewrite odd.parquet",
    ):
        assert words in shown
    document = call_json("data", "inspect", "odd.parquet", "--columns", "id")
    assert (document["rows"], document["format"], document["units"]["count"]) == (3, "parquet", 1)
    assert [column["name"] for column in document["columns"]] == ["id"]
    assert document["columns"][0]["nulls"] == 1
    assert document["rates"] is None  # so little data tells nothing
    assert document["advice"][-1]["command"] == ["runner", "data", "rewrite", "odd.parquet", "odd-rewritten"]
    assert call_json("data", "inspect", "lines.jsonl")["rows"] == 100
    call("data", "inspect", "nothing", code=2)
