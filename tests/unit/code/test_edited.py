"""What a process holds of the project's modules, and what their files say now."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from runner.code.constants import refuse_other_constants
from runner.code.hashing import identify
from runner.code.references import FunctionRef
from runner.errors import SpecError

HELD = """
SCALE = 1
OTHER = 1
COUNT = 0
def count():
    global COUNT
    COUNT += 1
def fn(batch, config):
    count()
    return SCALE
"""


@pytest.fixture
def held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """A module of the project that this process has imported."""
    (tmp_path / "held_by_process.py").write_text(HELD)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield importlib.import_module("held_by_process")
    sys.modules.pop("held_by_process", None)


def check(root: Path, file: str = "held_by_process.py") -> None:
    refuse_other_constants(identify([FunctionRef("fn", file=file)], root), root, "here")


def test_a_constant_that_is_not_what_the_file_says_is_refused(tmp_path: Path, held: ModuleType) -> None:
    """Whether the file was edited since, or the value was set in the process: workers would have another one."""
    check(tmp_path)
    held.SCALE = 5
    with pytest.raises(SpecError, match="SCALE is 5 in this process, and 1 in"):
        check(tmp_path)
    held.SCALE = 1
    (tmp_path / "held_by_process.py").write_text(HELD.replace("SCALE = 1", "SCALE = 1.0"))
    with pytest.raises(SpecError, match=r"SCALE is 1 in this process, and 1\.0 in"):
        check(tmp_path)


def test_what_is_not_reached_or_is_counted_may_change(tmp_path: Path, held: ModuleType) -> None:
    """A constant that the functions do not reach does not matter, nor does a variable that the module itself sets."""
    held.OTHER, held.COUNT = 5, 7
    check(tmp_path)


def test_what_a_module_on_the_way_sets_is_set_in_workers_too(tmp_path: Path, held: ModuleType) -> None:
    """A value that another module of the code gives is no other one in workers, which import that as well."""
    held.SCALE = 5
    fn = "import held_by_process\nheld_by_process.SCALE = 5\nfrom held_by_process import fn\n"
    (tmp_path / "sets_it.py").write_text(fn)
    check(tmp_path, "sets_it.py")
