"""Rules of the code base that a reader could break without noticing."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "runner"

#: Lower layers import nothing from higher ones. A package stands for all its modules.
LAYERS = [
    {"code_root", "interrupts", "private", "streams", "visible"},
    {"errors"},
    {"copied", "credentials", "fresh_source", "names", "pack_names", "script", "skipped", "switches", "trust"},
    {"edited", "optimized", "shapes", "store_keys", "tracebacks", "usercode"},
    {"entries"},
    {"isolation"},
    {"modules"},
    {"by_value"},
    {"checks", "store", "capture", "hints", "values_kinds"},
    {"spec_cluster", "bundle", "shared_store", "values"},
    {"records", "rows", "imported", "listed"},
    {"spec", "texts"},
    {"settings", "lifecycle", "logs", "patience", "ship", "graph"},
    {"code_files", "code_syntax"},
    {"code_decorators", "code_library", "code_tree"},
    {"code_deps"},
    {"code_plain"},
    {"code_slice"},
    {"code_value"},
    {"codehash", "packages", "receipt", "log_why", "finding", "kept"},
    {"config", "constants"},
    {"wire", "data"},
    {"project"},
    {"elsewhere"},
    {"resolve", "pack", "published"},
    {"reasons"},
    {"facts"},
    {"plan"},
    {"kube"},
    {"backends"},
    {"supervisor"},
    {"worker"},
    {"run", "kube_run", "ray_run", "local_run"},
    {"inline", "origin", "revise"},
    {"api", "leftovers"},
    {"show", "scaffold"},
    {"cli_cluster", "cli_keep", "onebox"},
    {"cli"},
    {"command"},
]
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def part(module: str) -> str:
    """The layer's name of a module: 'runner.data.stream.stream.order' -> 'data'."""
    return module.split(".")[1] if "." in module else "__init__"


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name for name in found if name.split(".")[0] == "runner"}


def modules() -> list[Path]:
    return [p for p in sorted(PACKAGE.rglob("*.py")) if "templates" not in p.parts]


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    """A module imports only from its own layer's part or from lower layers."""
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own in ("__init__", "__main__"):
        return
    assert own in RANK, f"{own} has no layer yet"
    for name in imports(path):
        target = part(name)
        if target in ("__init__", "__version__") or target not in RANK:
            continue
        assert target == own or RANK[target] < RANK[own], f"{own} imports {name}"


def run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_runner_is_light() -> None:
    """`import runner` and its definitions load neither torch, ray, kubernetes, pyarrow nor pandas."""
    code = (
        "import sys, runner; runner.Job, runner.Prep, runner.Train\n"
        "print([m for m in ('torch', 'ray', 'kubernetes', 'pyarrow', 'pandas', 'numpy') if m in sys.modules])"
    )
    assert run(code).strip() == "[]"


def test_the_folders_of_a_project_hide_no_package() -> None:
    """With a project's folder on the path, a package called `datasets` is still the one imported."""
    code = f"""
import sys, tempfile, pathlib
site = pathlib.Path(tempfile.mkdtemp())
(site / "datasets").mkdir()
(site / "datasets" / "__init__.py").write_text("load_dataset = 'theirs'")
sys.path.insert(0, {str(ROOT)!r})
sys.path.append(str(site))
import runner
from runner.plan.project import find_project
find_project(pathlib.Path({str(ROOT)!r})).stems(runner.Dataset)
import datasets
print(datasets.load_dataset)
"""
    assert run(code).strip() == "theirs"


def test_definitions_are_no_packages() -> None:
    """jobs/, datasets/ and clusters/ have no __init__.py, so they can never be imported in another package's place."""
    for folder in ("jobs", "datasets", "clusters"):
        assert not (ROOT / folder / "__init__.py").exists()
        assert list((ROOT / folder).glob("*.py"))


def test_words_reach_a_terminal_in_one_way() -> None:
    """What commands print goes through a console or `say`, which show control characters instead of sending them."""
    for path in [*(PACKAGE / "show").glob("*.py"), *PACKAGE.glob("cli*.py")]:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {ast.unparse(call) for call in calls}
        assert not names & {"print", "typer.echo", "typer.secho", "click.echo"} or path.name == "console.py", path
