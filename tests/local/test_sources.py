"""A whole run over sources of every kind: what was looked at when it was submitted is what its stages read."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

JOB = """
import pyarrow as pa
import pyarrow.compute as pc
from runner import Dataset, Job, Prep, Train

TABLE = Dataset("lake/table", format="delta", columns=("x", "p"))
LINES = Dataset(["lake/one", "lake/two"], schema={"day": "date32", "n": "int8"},
                csv={"delimiter": ";", "header": False, "names": ("day", "n", "note"), "nulls": ("-",)})

def grow(batch, config):
    import deltalake
    deltalake.write_deltalake("GROWN", pa.table({"x": [100], "p": ["late"]}), mode="append")
    return batch

def same(batch, config):
    return batch

def train(ctx, config):
    seen = []
    for batch in ctx.batches("images", batch_size=1, epochs=1):
        seen += [bytes(value) for value in batch["jpg"]]
        ctx.step()
    assert seen == [b"abc", b"abc"], seen

job = Job("sources", stages=[
    Prep("grow", fn=grow, source=TABLE, sink="grown", on="cpu"),
    Prep("lines", fn=same, source=LINES, sink="lined", on="cpu"),
    Train("train", fn=train, data={"images": Dataset("lake/images")}, on="cpu", workers=2),
])
"""


def test_a_run_over_a_table_lines_and_an_archive(tmp_path: Path) -> None:
    """A table is read at the version that it had at the submission, lines as they were declared, and an archive by the
    ranks of a training.
    """
    deltalake = pytest.importorskip("deltalake")
    lake = tmp_path / "lake"
    deltalake.write_deltalake(str(lake / "table"), pa.table({"x": [1, 2], "p": ["a", "b"]}))
    for folder, text in (("one", "2024-01-02;1;x\n"), ("two", "2024-01-03;-;-\n")):
        (lake / folder).mkdir()
        (lake / folder / "a.csv").write_text(text)
    (lake / "images").mkdir()
    with tarfile.open(lake / "images" / "a.tar", "w") as archive:
        for name in "abcd":
            member = tarfile.TarInfo(f"{name}.jpg")
            member.size = 3
            archive.addfile(member, io.BytesIO(b"abc"))
    (tmp_path / "pyproject.toml").write_text('[tool.runner]\nstore = ".runner"\n')
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "sources.py").write_text(JOB.replace("GROWN", str(lake / "table")))
    script = (
        "import runner\n"
        "if __name__ == '__main__':\n"
        "    print(runner.submit('jobs/sources.py').wait())\n"
        "    print(runner.dataset('grown').to_table().to_pylist())\n"
        "    print(runner.dataset('lined').to_table().to_pylist())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=240
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "succeeded", done.stdout + done.stderr
    assert lines[1] == "[{'x': 1, 'p': 'a'}, {'x': 2, 'p': 'b'}]"
    assert lines[2] == (
        "[{'day': datetime.date(2024, 1, 2), 'n': 1, 'note': 'x'}, "
        "{'day': datetime.date(2024, 1, 3), 'n': None, 'note': None}]"
    )
    assert deltalake.DeltaTable(str(lake / "table")).version() == 1
