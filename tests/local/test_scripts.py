"""Scripts that submit, as processes of their own; their runs start nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.backends.fake_kit import JOB, project

__all__ = ["project"]


def test_an_unguarded_submit_in_a_script_is_refused(project: Path) -> None:
    """Workers import the script, so a bare submit is an error before anything starts; a guarded one works."""
    script = project / "script.py"
    body = JOB + "\nimport runner\n"
    script.write_text(body + "run = runner.submit(job, cluster=runner.Cluster(backend='fake'))\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert '__name__ == "__main__"' in done.stderr
    guarded = (
        "if __name__ == '__main__':\n    print(runner.submit(job, cluster=runner.Cluster(backend='fake')).status)\n"
    )
    script.write_text(body + guarded)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False)
    assert done.stdout == "succeeded\n", done.stderr


def test_a_submit_in_a_function_that_a_script_calls_is_unguarded(tmp_path: Path) -> None:
    """The call's place at the top level of the script counts, however deep the submit is; a pool's submit is none."""
    script = tmp_path / "go.py"
    body = (
        "from concurrent.futures import ThreadPoolExecutor\nimport runner\nfrom runner.errors import ProjectError\n"
        "with ThreadPoolExecutor(1) as pool: K = pool.submit(len, 'abc').result()\n"
        "def fit(ctx, config): return K\n"
        "def main():\n"
        "    job = runner.Job('j', stages=[runner.Train('t', fn=fit, data={'train': runner.Dataset(url='*.csv')})])\n"
        "    try: print(runner.submit(job, cluster=runner.Cluster(backend='fake')).status)\n"
        "    except ProjectError as error: print(error.todo)\n"
    )
    (tmp_path / "a.csv").write_text("x\n1\n")
    script.write_text(body + "main()\nif __name__ == '__main__':\n    main()\n")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == 'put the call below `if __name__ == "__main__":`\nsucceeded\n', done.stderr


@pytest.mark.parametrize("taken", ["import runner", "from runner import *"])
def test_what_a_script_defines_below_its_guard_is_refused(tmp_path: Path, taken: str) -> None:
    """Workers import a script and do not run what is guarded, so a function defined there is named at submit."""
    script = tmp_path / "go.py"
    script.write_text(
        f"from pathlib import Path\n{taken}\nfrom runner.code import references as capture\n"
        "if __name__ == '__main__':\n    def fit(ctx, config): ...\n    capture.reference(fit, Path('.'), 'here')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "'fit' is defined below the guard" in done.stderr


def test_what_a_script_takes_from_a_module_by_a_star_is_its_own(tmp_path: Path) -> None:
    """A star binds what the module has, so such a function is found when workers import the script."""
    (tmp_path / "lib.py").write_text("class Fit:\n    def __call__(self, ctx, config): ...\nfit = Fit()\n")
    script = tmp_path / "go.py"
    script.write_text(
        "from lib import *\nfrom pathlib import Path\nfrom runner.code import script\n"
        "print(script.defines(Path(__file__), 'fit'))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.stdout == "True\n", done.stderr
