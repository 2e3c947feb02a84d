"""Everything that a function's rows depend on counts, whichever way it is reached; what it does not reach does not."""

from __future__ import annotations

import base64
import dataclasses
import json
import re
import sys
import sysconfig
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from runner.code.hashing import Identity, identify
from runner.code.references import FunctionRef
from runner.code.slicing.library import registers
from runner.spec import wire

HEAD = "from runner import Dataset, Job, Prep, Train\n"
TAIL = (
    "def train(ctx, config):\n    return 1\n"
    'job = Job("j", stages=[Prep("p", fn=fn, source="in", sink="out"), Train("t", fn=train, data={"train": "out"})])\n'
)


def kinds() -> dict[str, dict[str, str]]:
    """Kind -> files of a project, in which every @1@ counts and every #1# does not."""
    found: dict[str, dict[str, str]] = {}
    for section in re.split(r"^=== ", (Path(__file__).parent / "reach.txt").read_text(), flags=re.M)[1:]:
        name, *files = re.split(r"^--- ", section, flags=re.M)
        found[name.strip()] = {file.split("\n")[0]: file.split("\n", 1)[1].rstrip("\n") + "\n" for file in files}
    return found


KINDS = kinds()
#: Of these the whole module counts, with the training function.
WHOLE = ("globals", "exec", "exec in the space of a module", "the globals of a function")


def write(root: Path, files: dict[str, str], mark: str = "", value: str = "7") -> None:
    """The files, with `mark` written as `value` and every other mark as 1."""
    for name, text in files.items():
        text = text if not mark else text.replace(mark, value)
        for other in ("@1@", "@2@", "#1#", "#2#"):
            text = text.replace(other, "1")
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(HEAD + text + TAIL if name == "jobs/j.py" else text)
    if "real/lib.py" in files and not (root / "linked_lib").exists():
        (root / "linked_lib").symlink_to(root / "real/lib.py")
        (root / "linked_lib").rename(root / "linked_lib.py")


def identity(root: Path, **given: Any) -> Identity:
    return identify([FunctionRef("fn", file="jobs/j.py")], root, **given)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_reached_counts_and_nothing_else(tmp_path: Path, kind: str) -> None:
    """An edit of each marked place changes the hash if rows depend on it, and keeps it if they do not."""
    files = KINDS[kind]
    write(tmp_path, files)
    before = identity(tmp_path)
    for mark in ("@1@", "@2@", "#1#", "#2#"):
        if any(mark in text for text in files.values()):
            write(tmp_path, files, mark)
            assert (identity(tmp_path).hash != before.hash) is mark.startswith("@"), (mark, before.parts)
    write(tmp_path, files)
    assert identity(tmp_path) == before


@pytest.mark.parametrize("kind", KINDS)
def test_training_code_comments_and_layout_do_not_count(tmp_path: Path, kind: str) -> None:
    """Edits of the training function, the job, comments, docstrings and layout keep the hash."""
    write(tmp_path, KINDS[kind])
    before = identity(tmp_path).hash
    path = tmp_path / "jobs/j.py"
    text = path.read_text()
    for old, new in (
        ("    return 1\njob", "    return 2\njob"),
        ('Job("j"', 'Job("k"'),
        ("job = ", "# more\n\n\njob  =  "),
        ('Train("t"', 'Train("tt", workers=2'),
        (HEAD, f'"""About."""\n# {HEAD}\n{HEAD}'),
    ):
        if kind in WHOLE and "more" not in new and "About" not in new:
            continue  # the whole module counts there
        assert old in text
        path.write_text(text.replace(old, new))
        assert identity(tmp_path).hash == before, new


def test_the_code_lies_anywhere(tmp_path: Path) -> None:
    """The same files in another folder have the same identity, as in a run's own copy of the code."""
    for name in ("one", "two"):
        write(tmp_path / name, KINDS["src"])
    assert identity(tmp_path / "one").parts == identity(tmp_path / "two").parts


def test_parts_name_what_changed(tmp_path: Path) -> None:
    """Of two identities the parts that differ are the definitions that were edited."""
    write(tmp_path, KINDS["import"])
    before = identity(tmp_path).parts
    write(tmp_path, KINDS["import"], "@1@")
    after = identity(tmp_path).parts
    assert {name for name in after if after[name] != before.get(name)} == {"lib.py:f"}


def test_a_job_made_by_a_function_takes_no_training_code_along(tmp_path: Path) -> None:
    """`job = make_job(train)` describes a job; what it names is not part of the preparation."""
    files = {
        "jobs/j.py": "def fn(b, config): return 1\n"
        "def make(t):\n    return Job('x', stages=[Train('t', fn=t, data={'a': 'b'})])\n"
    }
    write(tmp_path, files)
    path = tmp_path / "jobs/j.py"
    path.write_text(path.read_text().replace("job = Job(", "job = make(train)\nother = Job("))
    before = identity(tmp_path).hash
    path.write_text(path.read_text().replace("    return 1\njob", "    return 2\njob"))
    assert identity(tmp_path).hash == before


def test_a_library_outside_the_project_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that Python finds elsewhere, but not among installed packages, is the user's code too."""
    (tmp_path / "libs/teamlib").mkdir(parents=True)
    (tmp_path / "libs/teamlib/__init__.py").write_text("")
    monkeypatch.syspath_prepend(str(tmp_path / "libs"))
    write(tmp_path / "p", {"jobs/j.py": "from teamlib.clean import f\ndef fn(b, config): return f()\n"})
    hashes = []
    for value in (1, 2):
        (tmp_path / "libs/teamlib/clean.py").write_text(f"def f(): return {value}\ndef g(): return 0\n")
        by_name = identify([FunctionRef("f", module="teamlib.clean")], tmp_path / "p")
        hashes.append((identity(tmp_path / "p").hash, by_name.hash))
    assert hashes[0][0] != hashes[1][0]
    assert hashes[0][1] != hashes[1][1]
    assert "teamlib/clean.py:f" in by_name.parts


def test_files_of_one_label_count_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two modules elsewhere that are called alike, one beside each of those that import them, both count."""
    job = "import liba.x, libb.x, tool\ndef fn(b, config): return liba.x.f(), libb.x.f(), tool.f()\n"
    names = ("p/tool.py", "libs/liba/tool.py", "libs/libb/tool.py")
    for lib in ("liba", "libb"):
        write(tmp_path / "libs" / lib, {"__init__.py": "", "x.py": "from tool import f\n"})
    monkeypatch.syspath_prepend(str(tmp_path / "libs"))
    write(tmp_path / "p", {"jobs/j.py": job})
    hashes = set()
    for edited in (None, *names):
        write(tmp_path, {name: f"def f(): return {2 if name == edited else 1}\n" for name in names})
        found = identity(tmp_path / "p")
        hashes.add(found.hash)
    assert {"tool.py", "import tool.py"} <= found.modules
    assert len(hashes) == 4


REGISTRIES = {
    "__init__.py": "from ._base import *\nfrom . import metas, _base as deep\nfrom .metas import Model as Renamed\n",
    "_base.py": "ALL = []\nclass Base:\n    def __init_subclass__(cls): ALL.append(cls)\nclass Plain: pass\n",
    "metas.py": "class Meta(type):\n    def __new__(m, *a): return super().__new__(m, *a)\nclass Sub(Meta): pass\n"
    "class Model(metaclass=Sub): pass\nclass Typed(metaclass=type): pass\n",
    "listed.py": "class Found: pass\ndef plugins(): return Found.__subclasses__()\n",
}


@pytest.mark.parametrize(
    ("base", "counts"),
    [
        ("Base", True),
        ("deep.Base", True),
        ("Renamed", True),
        ("metas.Model", True),
        ("listed.Found", True),
        ("Plain", False),
        ("metas.Typed", False),
        ("not_there.At", False),
    ],
)
def test_a_class_counts_where_a_library_notes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, counts: bool
) -> None:
    """One that derives from a library's base which keeps a list counts for who reads that list, others for nobody."""
    write(tmp_path / "site-packages/reglib", REGISTRIES)
    monkeypatch.syspath_prepend(str(tmp_path / "site-packages"))
    registers.cache_clear()
    job = "import reglib, reglib.listed\nclass A(reglib.{}):\n    k = {}\ndef fn(b, config): return reglib.deep.ALL\n"
    hashes = set()
    for value in (1, 2):
        write(tmp_path / "p", {"jobs/j.py": job.format(base, value)})
        hashes.add(identity(tmp_path / "p").hash)
    assert (len(hashes) == 2) is counts


def test_what_is_installed_is_named(tmp_path: Path) -> None:
    """Packages that the code imports are told apart from its own modules and from Python's."""
    write(
        tmp_path,
        {
            "jobs/j.py": "import json\nimport numpy as np\nimport lib\ndef fn(b, config): return np.sum(b)\n",
            "lib.py": "import pandas",
        },
    )
    assert identity(tmp_path).packages == {"numpy", "pandas"}
    assert identify([FunctionRef("sum", module="numpy")], tmp_path).packages == {"numpy"}


def test_files_that_strings_name_are_mentioned(tmp_path: Path) -> None:
    """A data file of the project that the code names is known, relative to the project or to the code's folder."""
    files = {
        "jobs/j.py": "def fn(b, config): return open('jobs/a.json'), 'table.csv', 'none.csv'\n",
        "jobs/a.json": "1",
        "jobs/table.csv": "",
    }
    write(tmp_path, files)
    assert identity(tmp_path).mentions == {tmp_path / "jobs/a.json", tmp_path / "jobs/table.csv"}


def test_variables_of_the_environment_that_are_read_are_known(tmp_path: Path) -> None:
    """However they are read, by names that are written out; not those that the code sets, or does not reach."""
    job = (
        "import os\nfrom os import environ, getenv\nos.environ['SET'] = '1'\nA = os.environ['A']\n"
        "def g(): return os.environ['NOT']\n"
        "def fn(b, config): return A, environ.get('B', 1), getenv('C'), 'D' in os.environ, os.environ['SET']\n"
    )
    write(tmp_path, {"jobs/j.py": job})
    assert identity(tmp_path).variables == {"A", "B", "C", "D"}


def test_names_of_files_are_known_where_code_asks_whether_they_are_there(tmp_path: Path) -> None:
    """Strings that may end a path, of code that looks for files; of other code only those of files that exist."""
    looks = (
        "import pathlib\nP = pathlib.Path('a.json')\ndef fn(b, config): return P.exists(), 'tab/b', 'words, of text.'\n"
    )
    write(tmp_path, {"jobs/j.py": looks})
    assert identity(tmp_path).looked_for == {"a.json", "tab/b"}
    write(tmp_path, {"jobs/j.py": looks.replace("P.exists()", "P")})
    assert not identity(tmp_path).looked_for


CONFIG = """
from dataclasses import dataclass, field
@dataclass(frozen=True)
class Part:
    width: int = #1#
    def area(self): return self.width * @1@
@dataclass(frozen=True)
class Config(object):
    part: Part = field(default_factory=Part)
    a: int = #2#
    LIMIT = 5
    def scale(self, x): return x * @2@ * K
K = 3
def fn(b, config: Config): return config.scale(b)
"""


def test_methods_of_the_config_count_and_its_fields_do_not(tmp_path: Path) -> None:
    """The code of the config's class and of those in its fields counts; values of fields count by themselves."""
    config = {"class": wire.to_json(FunctionRef("Config", file="jobs/j.py"), tmp_path)}
    write(tmp_path, {"jobs/j.py": CONFIG})
    before = identity(tmp_path, config=config)
    for mark, counts in (
        ("@1@", True),
        ("@2@", True),
        ("#1#", False),
        ("#2#", False),
        ("K = 3", True),
        ("LIMIT = 5", True),
    ):
        write(tmp_path, {"jobs/j.py": CONFIG}, mark, "7" if len(mark) < 4 else mark[:-1] + "8")
        assert (identity(tmp_path, config=config).hash != before.hash) is counts, mark


# -- by value --------------------------------------------------------------------------------------------------------

NOTEBOOK = """
import dataclasses, enum
import numpy as np
K = {constant}
TABLE = {{"a": [1, {table}], "b": {{3, 4}}}}
ARRAY = np.arange({array})
class Kind(enum.Enum):
    A = {member}
@dataclasses.dataclass
class Record:
    x: int = {record}
class Tool:
    k = {tool}
    def use(self): return {method} * K
TOOL = Tool()
TOOL.state = {state}
def deep(x): return {deep}
def helper(x, y={default}): return deep(x) + K
def scaler(k):
    def inner(b, config): return helper(b) * k, TABLE, ARRAY, TOOL.use(), Record(), Kind.A
    return inner
def recursive(n): return recursive(n - 1) if n else helper(0)
UNUSED = {unused}
fn = scaler({closure})
"""
NAMES = (
    "constant", "table", "array", "member", "record", "tool", "method", "state", "deep", "default", "unused", "closure",
)  # fmt: skip
VALUES = dict.fromkeys(NAMES, 1)


def by_value(source: str, root: Path, cell: int = 1) -> Identity:
    """The identity of a notebook's `fn`."""
    space: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(source, f"<ipython-input-{cell}>", "exec"), space)
    value = base64.b64encode(cloudpickle.dumps(space["fn"])).decode()
    return identify([FunctionRef("fn", value=value, source="")], root)


def test_what_is_typed_into_an_installed_program_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The session's main module may be a script of the environment; nothing that is defined there is."""
    monkeypatch.setattr(sys.modules["__main__"], "__file__", f"{sysconfig.get_path('scripts')}/repl", raising=False)
    found = [by_value(f"def fn(b, config): return {value}", tmp_path) for value in (1, 2)]
    assert found[0].hash != found[1].hash
    assert found[0].packages == set()


@pytest.mark.parametrize("name", VALUES)
def test_what_a_notebook_function_refers_to_counts(tmp_path: Path, name: str) -> None:
    """Helpers, globals, closures, defaults, classes and objects count, whatever cell they stand in; others do not."""
    before = by_value(NOTEBOOK.format(**VALUES), tmp_path)
    comments = NOTEBOOK.replace("\ndef", "\n\n# more\ndef").format(**VALUES)
    assert by_value(comments, tmp_path, cell=99).parts == before.parts
    after = by_value(NOTEBOOK.format(**{**VALUES, name: 2}), tmp_path)
    assert (after.hash != before.hash) is (name != "unused"), before.parts


def test_modules_of_a_notebook_function_are_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A notebook's function may use the project's modules: they count as files do."""
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "nb_helper_mod.py").write_text("def f(): return 1\n")
    source = "import nb_helper_mod\nfrom nb_helper_mod import f\ndef fn(b, config): return nb_helper_mod.f() + f()\n"
    before = by_value(source, tmp_path)
    (tmp_path / "nb_helper_mod.py").write_text("def f(): return 22\n")
    assert by_value(source, tmp_path).hash != before.hash


def test_identities_are_json(tmp_path: Path) -> None:
    """The parts can be kept in a record."""
    parts = by_value(NOTEBOOK.format(**VALUES), tmp_path).parts
    assert json.loads(json.dumps(parts)) == parts
    assert dataclasses.is_dataclass(Identity)


def test_a_module_that_code_would_do_without_counts(tmp_path: Path) -> None:
    """A module that comes, or goes, changes what code does that tries to import it, though there is nothing in it."""
    text = "try:\n    import fast\n    V = 1\nexcept ImportError:\n    V = 2\ndef fn(b, config): return V\n"
    inner = (
        "def fn(b, config):\n    try:\n        import fast\n    except ImportError:\n        return 2\n    return 1\n"
    )
    asked = (
        "from importlib.util import find_spec\n"
        "def fn(b, config):\n    if find_spec('fast'):\n        import fast\n    return 1\n"
    )
    for number, each in enumerate((text, inner, asked)):
        root = tmp_path / str(number)
        write(root, {"jobs/j.py": each})
        before = identity(root).hash
        (root / "fast.py").write_text("")
        there = identity(root).hash
        assert there != before
        (root / "fast.py").unlink()
        assert identity(root).hash == before


def test_docstrings_count_for_who_reads_them(tmp_path: Path) -> None:
    """A module's docstring counts for code that reads it, and only for that."""
    for number, (used, counts) in enumerate((("__doc__", True), ("1", False))):
        root = tmp_path / str(number)
        write(root, {"mine.py": f"'''one'''\ndef fn(b, config): return {used}\n"})
        before = identify([FunctionRef("fn", file="mine.py")], root).hash
        write(root, {"mine.py": f"'''two'''\ndef fn(b, config): return {used}\n"})
        assert (identify([FunctionRef("fn", file="mine.py")], root).hash != before) == counts


def test_variables_are_found_by_every_string_where_a_name_is_not_written_out(tmp_path: Path) -> None:
    """A helper that reads any variable reads those that the code names elsewhere; `expandvars` those in its text."""
    write(
        tmp_path,
        {
            "jobs/j.py": (
                "import os\nNAME = 'FROM_CONSTANT'\ndef setting(name): return os.environ.get(name, 1)\n"
                "def other(): return 'NOT_REACHED'\n"
                "def fn(b, config): return setting('SCALE'), os.environ[NAME], os.path.expandvars('$ROOT_A/${B_2}/x')\n"
            )
        },
    )
    assert {"SCALE", "FROM_CONSTANT", "ROOT_A", "B_2"} <= identity(tmp_path).variables
    assert "NOT_REACHED" not in identity(tmp_path).variables
    write(tmp_path, {"jobs/j.py": "import os\ndef fn(b, config): return 'SCALE', os.environ['ONLY']\n"})
    assert identity(tmp_path).variables == {"ONLY"}


def test_what_functions_of_a_notebook_read_is_known(tmp_path: Path) -> None:
    """Variables of the environment, and files that are named or looked for, count for code that lies in no file too."""
    (tmp_path / "data.json").write_text("1")
    cells = (
        "import os\nNAME = 'FROM_CONSTANT'\n"
        "def setting(name): return os.environ.get(name, 1)\n"
        "def inner(b): return [os.environ['lower'] for _ in b]\n"
        "def other(): return os.environ['NOT_REACHED']\n"
        "def fn(b, config): return setting('SCALE'), setting(NAME), inner(b), os.path.exists('flag.on'), 'data.json'\n"
    )
    found = by_value(cells, tmp_path)
    assert {"SCALE", "FROM_CONSTANT", "lower"} <= found.variables
    assert "NOT_REACHED" not in found.variables
    assert "flag.on" in found.looked_for
    assert found.mentions == {tmp_path / "data.json"}
