"""How long Arrow keeps what it has freed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

CODE = """
import os, sys, runner
assert "pyarrow" not in sys.modules
print(os.environ["MIMALLOC_PURGE_DELAY"])
"""


@pytest.mark.parametrize("own", [None, "10"])
def test_arrow_finds_it_when_it_is_loaded(own: str | None) -> None:
    """Whoever imports runner first has it set before Arrow reads it, unless they have set it themselves."""
    environment = {name: value for name, value in os.environ.items() if name != "MIMALLOC_PURGE_DELAY"}
    if own is not None:
        environment["MIMALLOC_PURGE_DELAY"] = own
    found = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == [own or "60000"]
