from __future__ import annotations

from pathlib import Path

import pytest

from runner.code.hashing import code_hash, project_files
from runner.code.references import FunctionRef

JOB = """
import math
from helpers.text import clean

SIZE = 3

def shared(x):
    return clean(x) * SIZE

def tokens(batch, config: Config):
    # a comment
    return shared(batch)

class Model:
    width = 5

class Config:
    size = 7

def train(ctx, config: Config) -> Model:
    return Model()
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "jobs").mkdir()
    (tmp_path / "helpers").mkdir()
    (tmp_path / "helpers/__init__.py").write_text("")
    (tmp_path / "helpers/text.py").write_text("from helpers import deep\ndef clean(x): return deep.f(x)\n")
    (tmp_path / "helpers/deep.py").write_text("def f(x): return x\n")
    (tmp_path / "helpers/other.py").write_text("def g(x): return x\n")
    (tmp_path / "jobs/job.py").write_text(JOB)
    return tmp_path


def hashed(root: Path, name: str) -> str:
    return code_hash(FunctionRef(name, file="jobs/job.py"), root)


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("jobs/job.py", "return shared(batch)", "return shared(batch) + 1"),
        ("jobs/job.py", "SIZE = 3", "SIZE = 4"),
        ("jobs/job.py", "clean(x) * SIZE", "clean(x) + SIZE"),
        ("helpers/text.py", "deep.f(x)", "deep.f(x) + 1"),
        ("helpers/deep.py", "return x", "return -x"),
    ],
)
def test_the_hash_changes_with_what_the_function_reaches(root: Path, file: str, old: str, new: str) -> None:
    """Its body, the names it uses, and the modules that it imports, also indirectly, count."""
    before = hashed(root, "tokens")
    edit(root / file, old, new)
    assert hashed(root, "tokens") != before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("jobs/job.py", "# a comment", "# another comment"),
        ("jobs/job.py", "width = 5", "width = 6"),
        ("jobs/job.py", "size = 7", "size = 8"),
        ("jobs/job.py", "return Model()", "return None"),
        ("helpers/other.py", "return x", "return -x"),
    ],
)
def test_the_hash_stays_with_what_the_function_does_not_reach(root: Path, file: str, old: str, new: str) -> None:
    """Comments, annotations' classes, other functions of the file and modules that are not imported do not count."""
    before = hashed(root, "tokens")
    edit(root / file, old, new)
    assert hashed(root, "tokens") == before


def test_files_are_followed_through_imports(root: Path) -> None:
    """A file's project modules are found, and nothing else of the project."""
    found = {path.relative_to(root).as_posix() for path in project_files([root / "jobs/job.py"], root)}
    assert found == {"jobs/job.py", "helpers/__init__.py", "helpers/text.py", "helpers/deep.py"}
