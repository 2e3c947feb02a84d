"""Seeds of random tests: a few where all tests run, more in `make soak`."""

from __future__ import annotations

from typing import Any

import pytest


def seeds(few: int, many: int) -> list[Any]:
    """The numbers below `many` as parameters; those from `few` on belong to `make soak`."""
    return [pytest.param(seed, marks=[pytest.mark.soak] if seed >= few else []) for seed in range(many)]
