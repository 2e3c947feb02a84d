"""The spec of a run, as little of it as every reader wants."""

from __future__ import annotations

from typing import Any

SPEC: dict[str, Any] = {
    "job": {"name": "tiny", "stages": [{"name": "train", "kind": "Train", "workers": 1}]},
    "cluster_name": "local", "cluster": {"backend": "local"}, "legs": [["train"]], "datasets": {},
}  # fmt: skip
