"""Which packages a preparation has loaded."""

from __future__ import annotations

import subprocess
import sys


def test_what_runner_imports_when_a_store_is_away_is_none_of_the_users() -> None:
    """A result names the packages that its function has loaded: a moment's trouble changes nothing of it."""
    code = """
from runner.prep.loaded_modules import LoadedModules
from runner.errors import StoreAway
from runner.store.retry import Retry
seen, left = LoadedModules(), [StoreAway("no route")]
def act():
    if left:
        raise left.pop()
Retry(60.0, longest_s=0.001)(act)
import sys
assert "tenacity" in sys.modules
import safetensors
print(seen.packages())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['safetensors']\n"
