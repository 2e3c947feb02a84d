"""Without the packages of an extra: what works, and what says at once which extra to install."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runner.backends.kuberay.manifest import RAY_VERSION
from runner.backends.registry import place
from runner.code import extras
from runner.code.extras import EXTRAS
from runner.code.traces import as_ours
from runner.driver import stages
from runner.driver.engines.skip import SkipEngine
from runner.errors import MissingPackage
from runner.plan.project import find_project
from runner.prep.transform import Transform
from runner.process.package import PACKAGE
from runner.record import Bundle
from runner.record.entries import Submitted
from runner.record.failures import Failure, exit_code_of
from runner.record.index import LIVE, Doing
from runner.record.run_spec import RunSpec
from runner.spec import Prep, Train, wire
from runner.worker import ray_session
from tests import ROOT
from tests.unit.cli.kit import FILES, call, unstarted, write_project
from tests.unit.record import spec_kit

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: The extras that bring what their modules are for, and nothing else.
PLAIN = ("train", "ray", "kube", "gcs", "azure", "plot", "pandas", "packages")
#: Modules that come with a package that is declared, and are imported only where that one is used.
WITH = {
    "aiobotocore": "s3fs", "aiohttp": "s3fs", "botocore": "s3fs", "yarl": "s3fs", "urllib3": "kubernetes",
    "google": "gcsfs", "requests": "gcsfs", "azure": "adlfs",
}  # fmt: skip
#: Modules of a user's classes, which runner knows where they are there.
USERS = {"attrs", "pydantic_core"}

ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {gone!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Absent())
"""
#: Runs commands one after the other, and tells how each ended.
COMMANDS = """
import contextlib, io, json
from runner.cli.commands import app
for words in {commands!r}:
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            app(words, prog_name="runner")
        except SystemExit as left:
            code = left.code or 0
    loaded = sorted({gone!r} & set(sys.modules))
    print(json.dumps(dict(words=words, code=code, out=out.getvalue(), err=err.getvalue(), loaded=loaded)))
"""
#: Calls from Python, and what each raises.
CALLS = """
import json, runner
for call in {calls!r}:
    try:
        exec(call)
        print(json.dumps([call, "", ""]))
    except Exception as error:
        print(json.dumps([call, type(error).__name__, str(error)]))
"""
ONE_MACHINE = """
from runner import Cluster, Group
cluster = Cluster(backend="{backend}", groups={{"cpu": Group(), "gpu": Group()}})
"""
MORE = {
    "clusters/local.py": ONE_MACHINE.format(backend="local"),
    "clusters/ray.py": ONE_MACHINE.format(backend="ray"),
    "clusters/kube.py": """
from runner import Cluster, Group, Kubernetes
shapes = {"cpu": Group(cpu=1, memory="1GiB"), "gpu": Group(cpu=1, memory="1GiB", gpu=1)}
cluster = Cluster(backend="kuberay", groups=shapes, kubernetes=Kubernetes(namespace="team", image="i:1"))
""",
    "jobs/preps.py": """
from runner import Job, Prep

def same(batch, config):
    return batch

def job_of(name, packages=(), **options):
    return Job(name, packages=packages, stages=[Prep(name, fn=same, source="text", sink=name, **options)])

plain = job_of("plain")
frames = job_of("frames", batch_format="pandas")
whole = job_of("whole", batch_format="dataset", sort_by=("text",))
brings = job_of("brings", packages=("humanize",))
""",
    "jobs/train.py": """
from runner import Job, Train

def fit(ctx, config):
    import torch

job = Job("train", stages=[Train("fit", fn=fit)])
""",
    "jobs/early.py": "import os\nimport torch.nn\n",
    "jobs/typed.py": "from runner import Job, TrainContext\n",
}  # fmt: skip


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a job for each extra, and a run in its store on which nothing works."""
    monkeypatch.chdir(write_project(tmp_path, {**FILES, **MORE}).resolve())
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    unstarted()
    return tmp_path


def without(gone: set[str], code: str, **given: Any) -> list[Any]:
    """The lines of JSON that a program prints where those modules are not installed."""
    text = (ABSENT + code).format(gone=gone, **given)
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


NEEDING = {
    "train": [
        ["submit", "train"], ["submit", "train", "--dry-run"], ["submit", "train", "--inline"],
        ["submit", "train", "--cluster", "ray"], ["submit", "train", "--dry-run", "-o", "json"],
        ["submit", "early"], ["submit", "early", "--cluster", "kube"], ["submit", "typed"],
    ],
    "ray": [
        ["submit", "jobs/preps.py:plain", "--cluster", "ray"], ["submit", "jobs/preps.py:whole"],
        ["submit", "jobs/preps.py:whole", "--inline"],
    ],
    "kube": [
        ["submit", "tiny", "--cluster", "kube", "--dry-run", "-o", "yaml"], ["doctor", "kube"], ["queue", "kube"],
        ["submit", "train", "--cluster", "kube"],
        ["gc", "kube"], ["admin", "tenant", "team", "--cpus", "1", "--memory", "1GiB"],
    ],
    "gcs": [["ps", "--store", "gs://lake/runs"], ["submit", "tiny", "--store", "gcs://lake/runs", "--dry-run"]],
    "azure": [["ps", "--store", "az://lake/runs"], ["data", "ls", "--store", "abfs://lake/runs"]],
    "plot": [["metrics", "--plot", "x.png"]],
    "pandas": [["submit", "jobs/preps.py:frames"], ["submit", "jobs/preps.py:frames", "--inline"]],
    "packages": [["submit", "jobs/preps.py:brings"], ["submit", "jobs/preps.py:brings", "--dry-run"]],
}  # fmt: skip


@pytest.mark.parametrize("extra", list(NEEDING))
def test_a_command_says_which_extra_it_misses(project: Path, extra: str) -> None:
    """A command that needs a package of an extra leaves with 2 and one line that says what to install."""
    ends = without(set(EXTRAS[extra]), COMMANDS, commands=NEEDING[extra])
    for end in ends:
        first, *rest = end["err"].splitlines()
        assert end["code"] == 2, end
        assert first.startswith("error: "), end
        assert first.endswith(f"pip install 'lake-runner[{extra}]'"), end
        assert "error: this needs" not in first, end  # it was asked for, rather than met
        assert all(line.startswith("  to do:   or,") for line in rest), end
    assert len(ends) == len(NEEDING[extra])


def test_what_needs_no_extra_works_without_any(project: Path) -> None:
    """Without a single extra: help, init, looking at runs, and the plan of what this machine does not run."""
    commands = [
        ["--help"], ["init", "other"], ["ps"], ["status"], ["logs"], ["metrics"], ["why"], ["checkpoints"],
        ["data", "ls"], ["submit", "jobs/preps.py:plain", "--dry-run"], ["why-run", "plain", "jobs/preps.py:plain"],
        ["submit", "tiny", "--dry-run"],
    ]  # fmt: skip
    gone = {module for modules in EXTRAS.values() for module in modules}
    ends = without(gone, COMMANDS, commands=commands)
    assert [(end["words"], end["code"], end["loaded"]) for end in ends] == [(words, 0, []) for words in commands]
    assert "".join(end["err"] for end in ends) == "nothing was printed\n"
    assert "pip install 'lake-runner[train,plot]'" in ends[1]["out"]


def test_a_run_on_kubernetes_is_looked_at_without_its_client(project: Path) -> None:
    """Its log, its state and its list need no `kube`; what only the cluster can tell says that it does."""
    bundle = Bundle(find_project().store(None), "r260101-000000aa-tiny-aa")
    bundle.write_spec(
        RunSpec.from_json({**spec_kit.SPEC, "cluster": wire.to_json(find_project().cluster("kube"), project)})
    )
    bundle.mark_cluster("a-uid", "https://10.0.0.1")
    bundle.index("tiny", LIVE, time.time(), Doing("running", "", place(bundle)))
    bundle.submit(Submitted("tiny", (("train",),), by="ann"))
    commands = [["ps"], *([name, bundle.run_id] for name in ("status", "logs", "metrics", "checkpoints"))]
    ends = without(set(EXTRAS["kube"]), COMMANDS, commands=[*commands, ["why", bundle.run_id], ["ssh", bundle.run_id]])
    assert [end["code"] for end in ends] == [0, 0, 0, 0, 0, 2, 2], [end["err"] for end in ends]
    assert bundle.run_id in ends[0]["out"]
    assert all(end["err"].endswith("pip install 'lake-runner[kube]'\n") for end in ends[5:])


def test_modules_are_loaded_without_any_extra() -> None:
    """What is imported at the top of a module is of the base, but for what runs in a rank, with torch."""
    files = [file.relative_to(PACKAGE.parent) for file in sorted(PACKAGE.rglob("*.py"))]
    modules = [".".join(file.with_suffix("").parts) for file in files if file.stem not in ("__init__", "__main__")]
    calls = [f"import {name}" for name in modules if not name.startswith("runner.train.")]
    gone = {module for modules in EXTRAS.values() for module in modules}
    assert [end for end in without(gone, CALLS, calls=calls) if end[1:] != ["", ""]] == []


def test_python_says_which_extra_it_misses(project: Path) -> None:
    """Before anything is read: a Stream, TrainContext and a submit; jobs and clusters need nothing."""
    calls = [
        "runner.Stream('nowhere/*.parquet', batch_size=1)",
        "runner.TrainContext",
        "runner.submit('train')",
        "from runner import Job, Prep, Train, Cluster, Batch, Run, runs; runs()",
    ]
    ends = without({"torch", "safetensors"}, CALLS, calls=calls)
    for line, kind, words in ends[:3]:
        assert kind == "MissingPackage", (line, kind, words)
        assert words.endswith("pip install 'lake-runner[train]'"), words
    assert ends[3][1:] == ["", ""]


def test_a_stream_of_tensors_needs_torch_alone(project: Path) -> None:
    """Where torch is there and safetensors is not, shards are streamed; as arrays of numpy also without torch."""
    calls = ["assert next(runner.Stream('lake/*.jsonl', batch_size=2))['text']"]
    assert without({"safetensors"}, CALLS, calls=calls) == [[calls[0], "", ""]]
    arrays = ["assert next(runner.Stream('lake/*.jsonl', batch_size=2, as_='numpy'))['text']"]
    assert without({"torch", "safetensors"}, CALLS, calls=arrays) == [[arrays[0], "", ""]]


def test_a_line_of_the_users_is_named(project: Path) -> None:
    """Of a job file that imports torch at its top: the file, the line, and that functions may import it themselves."""
    (end,) = without({"torch"}, COMMANDS, commands=[["submit", "early"]])
    assert re.search(r"^error: \S+jobs/early.py:2: imports torch, which is not installed: ", end["err"]), end["err"]
    assert "write `import torch` into the functions that use it" in end["err"]
    assert "Traceback" not in end["err"]


def test_a_function_that_imports_it_says_so_too(project: Path) -> None:
    """In a run, whose functions may import anything: the user's line as ever, and what to install."""
    job = "job = Job('late', stages=[Prep('f', fn=f, source='text', sink='late')])"
    code = ["from runner import Job, Prep", "def f(batch, config):", "    import pandas", job]
    (project / "jobs/late.py").write_text("\n".join(code))
    (end,) = without({"pandas"}, COMMANDS, commands=[["submit", "late", "--inline"]])
    assert end["code"] == 1
    assert "jobs/late.py:3 in f; pip install 'lake-runner[pandas]')" in end["err"]


def test_a_machine_of_a_run_that_lacks_a_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of other machines a client knows nothing: there the stage fails with what misses what, and where."""
    monkeypatch.setattr(extras, "_is_there", lambda module: False)
    here = f" on {os.uname().nodename} needs "
    scope: Any = SimpleNamespace(made_since_resume=set)
    with pytest.raises(MissingPackage, match=f"^Train 'fit'{here}torch and safetensors, which are not installed: pip"):
        stages.run(Train("fit", fn=print), scope, SkipEngine())
    with pytest.raises(MissingPackage, match=f"^Prep 'frames'{here}pandas, "):
        Transform(Prep("frames", fn=print, source="a", sink="b", batch_format="pandas"), None)
    with pytest.raises(MissingPackage, match=f"^a Ray for the run{here}ray, "):
        ray_session.start(tmp_path, 1)
    assert exit_code_of(Failure.of(MissingPackage("torch"))) == 2


def test_an_import_that_nobody_foresaw_is_no_bug(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever in runner it fails, of a command and of a run: what is missing, and what to install; not a traceback."""

    def fails(*_: Any) -> None:
        raise ModuleNotFoundError("No module named 'kubernetes'", name="kubernetes.client")

    monkeypatch.setattr(extras, "_is_there", lambda module: False)
    monkeypatch.setattr("runner.cli.queries.open_run", fails)
    words = "this needs kubernetes, which is not installed on .*: pip install 'lake-runner.kube.'"
    assert re.fullmatch(f"error: {words}\n", call("status", code=2).stderr)
    with pytest.raises(ModuleNotFoundError) as raised:
        fails()
    raised.value.__traceback__ = None  # none of it is the user's
    assert re.fullmatch(words, str(as_ours(raised.value)))


def test_a_folder_of_that_name_is_no_package(project: Path) -> None:
    """A project's folder `ray`, which Python would import as a namespace, is not taken for Ray."""
    (project / "ray").mkdir()
    code = "import sys; sys.path[:] = [p for p in sys.path if 'site-packages' not in p]\n" + CALLS
    calls = ["from runner.code import extras; assert extras.lacking('ray') == ['ray']"]
    text = code.format(calls=calls).replace("import json, runner", f"import json; sys.path.insert(0, {str(ROOT)!r})")
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=False, cwd=project)
    assert json.loads(done.stdout) == [calls[0], "", ""], done.stderr


# -- what is declared ------------------------------------------------------------------------------------------------


def names(requirements: list[str]) -> set[str]:
    """The packages that requirements name."""
    return {re.split(r"[\[<>=]", each)[0] for each in requirements}


def test_extras_are_as_declared() -> None:
    """Each extra brings the packages that are said to be missing without it, and `all` brings those of all of them."""
    declared = PROJECT["optional-dependencies"]
    for extra, modules in EXTRAS.items():
        assert names(declared[extra]) == set(modules.values()), extra
    assert sorted(declared["all"]) == sorted({line for extra in (*PLAIN, "notebook") for line in declared[extra]})


def test_every_import_is_declared() -> None:
    """Whatever runner imports is the library's, its own, or of a package that it declares; base modules are base's."""
    known = names(PROJECT["dependencies"]) | {module for modules in EXTRAS.values() for module in modules}
    found = {name for file in PACKAGE.rglob("*.py") for name in imported(ast.parse(file.read_text()))}
    assert found - sys.stdlib_module_names - known - USERS - set(WITH) == {"runner"}
    assert names(PROJECT["dependencies"]) - {"s3fs"} <= found  # fsspec loads s3fs by its name


def imported(tree: ast.AST) -> set[str]:
    """The top-level modules that source imports, wherever."""
    named = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    named += [str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level]
    return {name.partition(".")[0] for name in named}


def test_pods_are_said_to_have_the_ray_that_is_pinned() -> None:
    """A client without Ray names the version of the constraints, from which images are made."""
    assert f"\nray=={RAY_VERSION} " in (ROOT / "constraints.txt").read_text()
