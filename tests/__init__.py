"""Tests: `unit` (no run is started), `local` (real runs on this machine), `cluster` (on a real Kubernetes)."""

from pathlib import Path

#: The checkout.
ROOT = Path(__file__).resolve().parent.parent
