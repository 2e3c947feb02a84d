"""The seam between the supervisor and machines: start a driver for a leg, watch it, end it, prove that it is gone."""

from __future__ import annotations

from typing import Any, Protocol

from runner.lifecycle import DriverState


class Backend(Protocol):
    """Machines for one run. One attempt at one leg at a time."""

    def start(self, leg: int, attempt: int) -> None:
        """Start a driver for an attempt at a leg."""

    def observe(self) -> tuple[DriverState, str]:
        """The driver's state, and how it ended, in words."""

    def wait(self, timeout_s: float) -> None:
        """Return when the driver ends, when `wake` is called, or after `timeout_s` seconds."""

    def wake(self) -> None:
        """Make a `wait` in another thread, or a signal handler's main thread, return."""

    def stop(self, grace_s: float) -> None:
        """Ask the driver to end, and make it after `grace_s` seconds."""

    def clean(self) -> dict[str, Any]:
        """Remove everything of the run from the machines; what remains, counted, goes into the receipt."""


def open_backend(name: str, store_url: str, options: dict[str, Any], run_id: str) -> Backend:
    """The backend by its name in a cluster file."""
    if name in ("local", "ray"):
        from runner.backends.local import LocalBackend

        return LocalBackend(store_url, options, run_id)
    from runner.backends.fake import FakeBackend

    return FakeBackend(store_url, options, run_id)
