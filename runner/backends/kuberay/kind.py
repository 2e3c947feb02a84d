"""What there is to know of a Kubernetes with KubeRay."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING
from urllib.parse import quote

from runner.backends.kind import Kind
from runner.errors import InputError
from runner.plan.layout import Layout
from runner.record.run_spec import KubernetesSpec

if TYPE_CHECKING:
    from runner.backends.base import Backend, ClientSide
    from runner.plan.plan import Plan
    from runner.plan.resolve import Resolved
    from runner.record import Bundle
    from runner.spec import Cluster, Kubernetes


class KubeRay(Kind):
    """Pods: the supervisor is a batch Job, which replaces one that dies, and each attempt at a leg a RayJob."""

    remote = on_ray = launches_early = restarts = True

    def layout(self, cluster: Cluster) -> Layout:
        """Where a queue admits a leg whole, none grows, and two at a time would need quota for both."""
        where = kubernetes_of(cluster)
        lead_s = where.lead_s if where.queue is None else 0.0
        return Layout(grows=where.queue is None, lead_s=lead_s, queue=where.queue, priority=where.priority)

    def environment(self, cluster: Cluster) -> Mapping[str, str]:
        """What the cluster's file gives to pods."""
        return kubernetes_of(cluster).environment

    def check(self, resolved: Resolved, plan: Plan, brought: Collection[str] = ()) -> list[str]:
        """Raise InputError for what these machines could not do; returns what should be said besides."""
        from runner.backends.kuberay.check import check

        return check(resolved, plan)

    def open(self, bundle: Bundle) -> Backend:
        """The machines of a run, for its supervisor."""
        from runner.backends.kuberay.machines import KubeRayBackend

        return KubeRayBackend(bundle)

    def client(self, bundle: Bundle) -> ClientSide:
        """A run on these machines, as a client sees it."""
        from runner.backends.kuberay.client import KubeRayClient

        return KubeRayClient(bundle)

    def abandon(self, bundle: Bundle) -> bool:
        """Remove all of a run that never came to exist."""
        from runner.backends.kuberay.machines import abandon

        return abandon(bundle)

    def place(self, bundle: Bundle) -> str:
        """A namespace, as the client reaches it, of the very cluster to which the run was submitted."""
        where = bundle.spec().cluster.kubernetes or KubernetesSpec({})
        return f"{where.context or ''}/{where.namespace}/{quote(bundle.cluster().mark, safe='')}"

    def living(self, place: str) -> set[str] | None:
        """The runs at a place whose supervisors live; None where that cannot be asked."""
        from runner.backends.kuberay.client import living

        return living(place)


KUBERAY = KubeRay()


def kubernetes_of(cluster: Cluster, found: str = "", todo: str = "") -> Kubernetes:
    """What a cluster on Kubernetes says of it.

    Args:
        found, todo: of the error, where the cluster is on none.

    Raises:
        InputError: it is on none.
    """
    if cluster.kubernetes is None:
        shown = found or f"a cluster of backend '{cluster.backend}'"
        raise InputError(shown, allowed="one of backend 'kuberay'", todo=todo)
    return cluster.kubernetes
