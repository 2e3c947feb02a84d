from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from runner import Group
from runner.code import references
from runner.errors import ProjectError, SpecError
from runner.process.code_root import is_installed
from runner.process.package import PACKAGE
from runner.spec import wire
from runner.values import texts


def top_level(x: int) -> int:
    return x + 1


class Tool:
    def method(self, batch: Any, config: Any) -> None: ...


def test_a_function_of_a_file_travels_as_its_place(tmp_path: Path) -> None:
    """The reference holds file and name, and another code root loads the function from there."""
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs/a.py").write_text("def f(x):\n    return x * 2\n")
    module = references.load_file(tmp_path / "jobs/a.py", tmp_path)
    ref = references.reference(module.f, tmp_path, "here")
    assert (ref.file, ref.name, ref.value) == ("jobs/a.py", "f", None)
    references.set_code_root(tmp_path)
    assert ref.load()(4) == 8


@pytest.mark.parametrize(
    ("file", "installed"),
    [
        ("/any/lib/python3.11/site-packages/numpy/core.py", True),
        ("/usr/lib/python3/dist-packages/yaml.py", True),
        (json.__file__, True),
        (os.path.realpath(json.__file__), True),
        (f"{sysconfig.get_path('scripts')}/pytest", True),
        (texts.__file__, True),
        (PACKAGE, True),
        (__file__, False),
        (f"{PACKAGE}_tools/a.py", False),
        ("/home/me/site-packages.py", False),
    ],
)
def test_where_a_file_lies_tells_whose_it_is(file: str | Path, installed: bool) -> None:
    """Environments, Python, whatever way leads to it, and runner hold what workers have; all else is the user's."""
    assert is_installed(Path(file)) is installed


def test_a_function_of_runners_own_travels_by_its_name() -> None:
    """Also where the project is the folder that runner lies in: its files travel as runner, not as the project's."""
    ref = references.reference(texts.read, PACKAGE.parent, "here")
    assert (ref.file, ref.module, ref.name) == (None, "runner.values.texts", "read")


@pytest.mark.parametrize("function", [lambda x: x, Tool().method], ids=["a lambda", "a bound method"])
def test_what_no_other_process_can_import_is_refused(function: Any) -> None:
    """Lambdas and methods are refused with the way out."""
    with pytest.raises(SpecError, match="top level"):
        references.reference(function, PACKAGE.parent, "Prep 'x', field 'fn'")


def test_a_nested_function_is_refused() -> None:
    """A function inside a function is refused by name."""

    def inner(x: int) -> int:
        return x

    with pytest.raises(SpecError, match="inner"):
        references.reference(inner, PACKAGE.parent, "x")


def test_a_notebooks_function_travels_by_value(tmp_path: Path) -> None:
    """What an interactive session defines is pickled with what it uses, and loads in another process."""
    code = (
        "from pathlib import Path\n"
        "from runner.code import references as capture; from runner.spec import wire\n"
        "factor = 3\n"
        "def f(x): return x * factor\n"
        f"ref = capture.reference(f, Path({str(tmp_path)!r}), 'x')\n"
        "import json; print(json.dumps(wire.to_json(ref, Path('.'))))"
    )
    done = subprocess.run([sys.executable, "-"], input=code, capture_output=True, text=True, check=True)
    import json

    from runner.spec import wire

    ref = wire.from_json(json.loads(done.stdout))
    assert ref.file is None
    assert ref.load()(5) == 15


def test_what_came_by_value_goes_on_by_value(tmp_path: Path) -> None:
    """A resume that changes the config of a notebook's run reads its classes, and writes them again."""
    define = (
        "import json, sys\nfrom dataclasses import dataclass\nfrom pathlib import Path\n"
        "from runner.spec import config\n"
        "@dataclass\nclass Config:\n    n: int = 1\n"
        "json.dump(config.config_to_json(Config(5), Path(sys.argv[1])), sys.stdout)"
    )
    again = (
        "import json, sys\nfrom pathlib import Path\nfrom runner.spec import config\n"
        "made = config.config_from_json(json.load(open(Path(sys.argv[1]) / 'first')))\n"
        "json.dump(config.config_to_json(made, Path(sys.argv[1])), sys.stdout)"
    )
    told = subprocess.run([sys.executable, "-", tmp_path], input=define, capture_output=True, text=True, check=True)
    (tmp_path / "first").write_text(told.stdout)
    told = subprocess.run([sys.executable, "-c", again, tmp_path], capture_output=True, text=True, check=True)
    raw = json.loads(told.stdout)
    assert raw["fields"] == {"n": 5}
    assert "value" in raw["class"]


def test_a_file_that_raises_shows_the_users_traceback(tmp_path: Path) -> None:
    """The error holds the user's frames, none of runner's."""
    (tmp_path / "bad.py").write_text("def g():\n    return 1 / 0\n\nx = g()\n")
    with pytest.raises(ProjectError) as caught:
        references.load_file(tmp_path / "bad.py", tmp_path)
    text = str(caught.value)
    assert "ZeroDivisionError" in text
    assert "in g" in text
    assert "capture.py" not in text


def test_user_line_names_the_users_place(tmp_path: Path) -> None:
    """One line tells the exception and where the user's code raised it."""
    (tmp_path / "deep.py").write_text("def f():\n    raise ValueError('no')\n")
    module = references.load_file(tmp_path / "deep.py", tmp_path)
    references.set_code_root(tmp_path)
    with pytest.raises(ValueError, match="no") as caught:
        module.f()
    assert references.user_line(caught.value) == "ValueError: no (deep.py:2 in f)"


def test_user_line_names_the_users_place_below_a_compiled_library(tmp_path: Path) -> None:
    """What a library written in Cython raises is the user's at the line that called it, as with libraries in Python."""
    (tmp_path / "columns.py").write_text("def f(batch):\n    return batch['y']\n")
    module = references.load_file(tmp_path / "columns.py", tmp_path)
    references.set_code_root(tmp_path)
    with pytest.raises(KeyError) as caught:
        module.f(pa.table({"x": [1]}))
    assert references.user_line(caught.value).endswith("(columns.py:2 in f)")


def test_a_wrong_call_is_told_with_the_users_line(tmp_path: Path) -> None:
    """An error of ours that the user's call made says where that call is, once, and travels with it."""
    (tmp_path / "calls.py").write_text("from runner import Job\ndef f():\n    Job(3)\n")
    module = references.load_file(tmp_path / "calls.py", tmp_path)
    references.set_code_root(tmp_path)
    with pytest.raises(SpecError) as caught:
        module.f()
    told = pickle.loads(pickle.dumps(references.as_ours(references.as_users(caught.value))))
    assert str(told).splitlines()[0] == "Job (calls.py:3 in f): missing a required argument: 'stages'"


def test_a_mapping_may_have_the_key_that_marks_definitions() -> None:
    """A label, or a part of a pod template, is often called 'kind'; it comes back as it went."""
    template = {"spec": {"list": ({"kind": "Pod", "name": "a"},)}, "kind": {"of": "thing"}}
    group = Group(gpu=1, node_selector={"kind": "h100"}, pod_template=template)
    assert wire.from_json(json.loads(json.dumps(wire.to_json(group, Path("."))))) == group
