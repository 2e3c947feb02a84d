"""The seams to machines: what the supervisor does with them from within, and what a client does from outside."""

from __future__ import annotations

from typing import Any, Protocol
from urllib.parse import quote

from runner.record.bundle import Bundle
from runner.record.history import DriverState, View


class Backend(Protocol):
    """Machines for one run, as its supervisor uses them: start a driver, watch it, end it, prove that it is gone.

    One attempt at one leg at a time.
    """

    def attach(self, leg: int, attempt: int) -> None:
        """Take up what an earlier supervisor of this run began, if it is still there."""

    def prepare(self, leg: int) -> None:
        """Ask for the machines of a later leg; whatever runs goes on. They are taken up, or let go, by `start`."""

    def start(self, leg: int, attempt: int) -> None:
        """Start a driver for an attempt at a leg."""

    def observe(self) -> tuple[DriverState, str]:
        """The driver's state, and how it ended, in words."""

    def causes(self) -> list[str]:
        """What ended machines against their will, in words; the driver may not know it."""

    def loss(self) -> str:
        """LOST or EVICTED if machines of the current attempt went away through no fault of the job; "" otherwise."""

    def wait(self, timeout_s: float) -> None:
        """Return when the driver ends, when `wake` is called, or after `timeout_s` seconds."""

    def wake(self) -> None:
        """Make a `wait` in another thread, or a signal handler's main thread, return."""

    def stop(self, grace_s: float) -> None:
        """Ask the driver to end, and make it after `grace_s` seconds."""

    def clean(self) -> dict[str, Any]:
        """Remove everything of the run from the machines; what remains, counted, goes into the receipt.

        "asked_at", if it is there: since when machines had been asked to go already; seconds since 1970.
        """


class Outside(Protocol):
    """One run as a client sees it, which may be on another machine than the supervisor."""

    def launch(self) -> None:
        """Start the run's supervisor, which outlives the client."""

    def is_lost(self, view: View) -> bool:
        """Whether nothing works on the run any more although its log has no end."""

    def nudge(self, view: View) -> None:
        """Tell the supervisor to read the log now; it would do so by itself in a moment."""

    def await_change(self, view: View, seconds: float) -> None:
        """Return when the supervisor ends, where that can be seen, or after so many seconds."""

    def why(self) -> list[dict[str, Any]]:
        """What its machines wait for, the most telling first: "waits_for", "since", "until" (a deadline), "helps".

        Times are seconds since 1970.
        """

    def is_here(self) -> bool:
        """Whether what the run is on can be asked from here."""

    def how_lost(self) -> str:
        """What is known of how a lost run's supervisor ended."""

    def last_words(self) -> str:
        """The end of what a lost run's supervisor printed, such as its traceback, where that can still be read."""

    def remove(self) -> dict[str, Any]:
        """Remove what a lost run has left; what remains, counted, goes into the receipt."""


#: Backends whose supervisor is made before the run exists: it waits for the first entry of the log, or leaves.
EARLY = ("kuberay",)
#: Backend 'ray' with the address of a cluster that is there already.
RAY_CLUSTER = "ray-cluster"


def _kind(bundle: Bundle) -> str:
    cluster = bundle.known_spec()["cluster"]
    return RAY_CLUSTER if cluster.get("address") is not None else str(cluster["backend"])


def open_backend(bundle: Bundle) -> Backend:
    """The backend that the run's cluster file names."""
    name = _kind(bundle)
    store = bundle.root
    if name == RAY_CLUSTER:
        from runner.backends.ray.machines import RayJobsBackend

        return RayJobsBackend(bundle)
    if name == "kuberay":
        from runner.backends.kuberay.machines import KubeRayBackend

        return KubeRayBackend(bundle)
    if name in ("local", "ray"):
        from runner.backends.local.machines import LocalBackend

        return LocalBackend(store.url, store.options, bundle.run_id, sealed=bundle.sealed)
    from runner.backends.fake import FakeBackend

    return FakeBackend(store.url, store.options, bundle.run_id)


def abandon(bundle: Bundle) -> bool:
    """Remove all of a run that never came to exist: its client died before it wrote the first entry of the log.

    Returns:
        Whether that was so: a client that was only slow may have written it at the last moment.
    """
    from runner.backends.kuberay import machines as kuberay

    return kuberay.abandon(bundle)


def place(bundle: Bundle) -> str:
    """Where the supervisor of a run is, for `living`; "" where only its log tells how it can be found."""
    cluster = bundle.spec()["cluster"]
    if cluster["backend"] != "kuberay":
        return ""
    where = cluster["kubernetes"]
    return f"{where['context'] or ''}/{where['namespace']}/{quote(bundle.cluster().get('mark', ''), safe='')}"


def living(where: str) -> set[str] | None:
    """The runs at a `place` whose supervisors live; None where that cannot be asked."""
    from runner.backends.kuberay import client as kuberay_outside

    return kuberay_outside.living(where)


def open_outside(bundle: Bundle) -> Outside:
    """The client's side of the same."""
    name = _kind(bundle)
    if name == RAY_CLUSTER:
        from runner.backends.ray.client import RayJobsOutside

        return RayJobsOutside(bundle)
    if name == "kuberay":
        from runner.backends.kuberay.client import KubeRayOutside

        return KubeRayOutside(bundle)
    from runner.backends.local.client import LocalOutside

    return LocalOutside(bundle)
