"""Which kind of machines a run is on, and what knows that kind."""

from __future__ import annotations

from urllib.parse import quote

from runner.backends.base import Backend, Outside
from runner.record.bundle import Bundle

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
