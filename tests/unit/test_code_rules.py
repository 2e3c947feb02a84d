"""Rules of the code base that a reader could break without noticing."""

from __future__ import annotations

import ast
import subprocess
import sys

from tests import ROOT

PACKAGE = ROOT / "runner"


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
sys.path[:0] = [{str(ROOT)!r}, str(site)]
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
    for path in (PACKAGE / "cli").glob("*.py"):
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {ast.unparse(call) for call in calls}
        assert not names & {"print", "typer.echo", "typer.secho", "click.echo"} or path.name == "console.py", path
