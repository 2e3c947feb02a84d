"""The names under which the user's code is imported, and what finds it again under them: other processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from runner.code import isolation, references, usercode
from runner.code.imported import import_folders
from runner.code.modules import inside_of, load_file
from runner.errors import ProjectError, SpecError
from runner.process import code_root
from runner.process.package import PACKAGE
from runner.spec import wire

FUNCTIONS = """
import functools
def plain(x): return ["plain", x]
first = plain
def plain(x): return ["second", x]
def timed(f):
    def inner(x): return ["timed", *f(x)]
    return inner
@timed
def decorated(x): return [x]
def add(x, k): return ["partial", x + k]
part = functools.partial(add, k=3)
small = lambda x: ["lambda", x]
class Tool:
    def __call__(self, x): return ["instance", x]
    def method(self, x): return ["method", x]
    @classmethod
    def of(cls, x): return ["class", x]
    @staticmethod
    def at(x): return ["static", x]
tool = Tool()
@functools.lru_cache
def cached(x): return ["cached", x]
hidden = [lambda x: x]
"""
NAMES = ("first", "plain", "decorated", "part", "small", "tool", "tool.method", "Tool.of", "Tool.at", "cached", "Tool")


def python(code: str, *words: str, cwd: Path | None = None, **environment: str) -> Any:
    """What the code prints as JSON, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=cwd,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", **environment},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_whatever_a_name_stands_for_travels_by_it(tmp_path: Path) -> None:
    """Decorated, bound, partial and cached callables, and names bound again, are in another process what they are."""
    (tmp_path / "f.py").write_text(FUNCTIONS)
    with isolation.isolated():
        module = load_file(tmp_path / "f.py", tmp_path)
        values = [references._at(module, name) for name in NAMES]
        refs = [wire.to_json(references.reference(value, tmp_path, "here"), tmp_path) for value in values]
        told = [value(1) for value in values[:-1]]
        with pytest.raises(SpecError, match="a lambda in .*f.py is not at the top level"):
            references.reference(module.hidden[0], tmp_path, "here")
    code = (
        "import json, sys\nfrom pathlib import Path\nfrom runner.code import references\n"
        "from runner.spec import wire\nreferences.set_code_root(Path('.'))\n"
        "found = [wire.from_json(ref).load() for ref in json.loads(sys.argv[1])]\n"
        "print(json.dumps([f(1) for f in found[:-1]] + [found[-1].__name__]))"
    )
    assert python(code, json.dumps(refs), cwd=tmp_path) == [*told, "Tool"]
    assert told[0] == ["plain", 1]


CHILDREN = """
import json, multiprocessing, pickle, sys
from pathlib import Path
from runner.code import references
from runner.spec import wire
if __name__ == "__main__":
    from runner.worker.children import make_ready
    references.set_code_root(Path(sys.argv[1]))
    make_ready()
    found = {}
    for ref in json.loads(sys.argv[2]):
        function = wire.from_json(ref).load()
        for method in ("fork", "forkserver", "spawn"):
            with multiprocessing.get_context(method).Pool(1) as pool:
                found[f"{ref['name']} {method}"] = pool.map(function, [2])
    print(json.dumps(found))
"""


def test_children_of_every_start_method_find_what_a_file_defines(tmp_path: Path) -> None:
    """Functions of a job file, of a file that has no name of its own, of `src/` and of a script reach pools."""
    files = {
        "jobs/my job.py": "from common import K\ndef dashed(x): return x * K\n", "jobs/common.py": "K = 2\n",
        "jobs/v2.1.py": "def dotted(x): return x * 3\n",
        "src/lib/ops.py": "from .more import K\ndef inner(x): return x * K\n", "src/lib/__init__.py": "",
        "src/lib/more.py": "K = 4\n", "random.py": "raise SystemExit('the wrong one')\n",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "go.py").write_text("def own(x): return x * 5\nif __name__ == '__main__':\n    raise SystemExit(1)\n")
    refs = []
    with isolation.isolated():
        for name, function in (("jobs/my job.py", "dashed"), ("jobs/v2.1.py", "dotted"), ("src/lib/ops.py", "inner")):
            module = load_file(tmp_path / name, tmp_path)
            refs.append(wire.to_json(references.reference(getattr(module, function), tmp_path, "here"), tmp_path))
        (tmp_path / ".runner-folders.json").write_bytes(import_folders(tmp_path).to_bytes())
    assert [ref["module"] for ref in refs] == ["jobs.my job", f"{usercode.__name__}.jobs.v2%2E1", "lib.ops"]
    refs.append(wire.to_json(references.FunctionRef("own", file="go.py", module="__mp_main__"), tmp_path))
    found = python(CHILDREN, str(tmp_path), json.dumps(refs), PYTHONPATH="")
    factors = {"dashed": 2, "dotted": 3, "inner": 4, "own": 5}
    assert found == {
        f"{name} {method}": [2 * factor]
        for name, factor in factors.items()
        for method in ("fork", "forkserver", "spawn")
    }


SESSION = """
import sys; sys.path.insert(0, {tests!r})
import json
from pathlib import Path
from runner.code import references
from runner.spec import wire
from runner.errors import SpecError
K = 3
def helper(x): return Wrapped(x * K).value
class Wrapped:
    def __init__(self, value): self.value = value
def outer(k):
    def nested(x): return helper(x) + k
    return nested
def fit(x):
    import multiprocessing, pickle
    value = pickle.loads(pickle.dumps(Wrapped(x))).value
    found = [value]
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(1) as pool:
            found += pool.map(helper, [x])
    return found
lock = __import__("threading").Lock()
def locked(x): return lock
big = bytes(20 << 20)
def heavy(x): return big
refs, told = [], []
for function in (fit, outer(4), lambda x: helper(x), outer):
    refs.append(wire.to_json(references.reference(function, Path("."), "here"), Path(".")))
for function in (locked, heavy):
    try: references.reference(function, Path("."), "here")
    except SpecError as error: told.append(str(error))
print(json.dumps([refs, told]))
"""


def test_what_a_session_defines_travels_and_has_its_names_again(tmp_path: Path) -> None:
    """Helpers, classes and nested functions of cells run in a worker, and can be pickled there by their names; what
    cannot travel is named before anything starts.
    """
    done = subprocess.run(
        [sys.executable, "-"], input=SESSION.format(tests=str(tmp_path)), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    refs, (locked, heavy) = json.loads(done.stdout)
    assert "it uses 'lock', a lock, which cannot travel" in locked
    assert "20 MiB; the largest is 'big'" in heavy
    code = CHILDREN.replace("print(json", "pass; _ = (json").replace(
        "for ref in json.loads(sys.argv[2])", "for ref in []"
    )
    code += (
        "    loaded = [wire.from_json(ref).load() for ref in json.loads(sys.argv[2])]\n"
        "    print(json.dumps([f(2) for f in loaded[:3]]))\n"
    )
    assert python(code, str(tmp_path), json.dumps(refs)) == [[2, 6, 6], 10, 6]


def test_what_was_edited_since_it_was_imported_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that is given as a value must be what its file says, since workers import the file as it is now."""
    (tmp_path / "held.py").write_text("def f(x):\n    return x\n")
    monkeypatch.syspath_prepend(tmp_path)
    import held

    assert references.reference(held.f, tmp_path, "here").name == "f"
    (tmp_path / "held.py").write_text("def f(x):\n    return -x\n")
    with pytest.raises(SpecError, match="held.py was edited since this process imported 'f'"):
        references.reference(held.f, tmp_path, "here")
    del sys.modules["held"]


def test_a_link_is_where_it_is_seen(tmp_path: Path) -> None:
    """A file behind a link below the root is the project's; the root may itself be reached by a link."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "root").mkdir()
    (tmp_path / "elsewhere/a.py").touch()
    (tmp_path / "root/lib").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "other").symlink_to(tmp_path / "root")
    for path in ("root/lib/a.py", "other/lib/a.py"):
        assert inside_of(tmp_path / path, tmp_path / "root") == Path("lib/a.py")
    assert inside_of(tmp_path / "elsewhere/a.py", tmp_path / "root") is None


def test_a_project_around_runner_leaves_it_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a project at `/` its own folders leave the path of a run's processes; runner and the run's copy stay."""
    package = PACKAGE
    monkeypatch.setattr(code_root, "_code_root", None)
    monkeypatch.setenv(code_root.ROOT_VARIABLE, "")
    monkeypatch.setattr(sys, "path", [str(package), "/srv/libs", *sys.path])
    (tmp_path / code_root.FOLDERS_NOTE).write_bytes(code_root.Folders(("", "libs"), (), "/").to_bytes())
    for _ in range(2):
        code_root.set_code_root(tmp_path)
        assert {str(package), str(tmp_path), str(tmp_path / "libs")} <= set(sys.path)
        assert "/srv/libs" not in sys.path


def test_a_module_that_is_called_like_pythons_own_is_refused_where_it_is_meant(tmp_path: Path) -> None:
    """Python's own come first in workers, so a job that imports the project's `queue.py` is told to rename it."""
    from runner.code.imported import refuse_shadowed

    (tmp_path / "queue.py").write_text("X = 1\n")
    (tmp_path / "a.py").write_text("import random\n")
    (tmp_path / "b.py").write_text("def f():\n    from queue import X\n")
    refuse_shadowed([Path("a.py")], tmp_path)
    with pytest.raises(ProjectError, match=r"b.py imports 'queue'(.|\n)*rename queue.py"):
        refuse_shadowed([Path("b.py")], tmp_path)
