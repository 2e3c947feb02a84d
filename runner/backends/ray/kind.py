"""What there is to know of a Ray: one that is started on this machine for a run, or a cluster that is there already."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from runner.backends.kind import Kind
from runner.backends.local.kind import LocalKind
from runner.plan.layout import Layout

if TYPE_CHECKING:
    from runner.backends.base import Backend, ClientSide
    from runner.plan.plan import Plan
    from runner.plan.resolve import Resolved
    from runner.record import Bundle
    from runner.spec import Cluster


class RayHere(LocalKind):
    """As plain processes on this machine, but that the driver starts a Ray for the run."""

    on_ray = True

    def check(self, resolved: Resolved, plan: Plan, brought: Collection[str] = ()) -> list[str]:
        """Raise InputError for what these machines could not do; returns what should be said besides."""
        from runner.code import extras

        told = super().check(resolved, plan, brought)
        if any(stage.action != "skip" for stage in plan.stages):
            extras.need("ray", f"cluster '{resolved.cluster_name}'", brought=brought)
        return told


class RayCluster(Kind):
    """A cluster that others use too; supervisor and drivers are jobs of its Jobs API."""

    remote = shared = on_ray = True

    def layout(self, cluster: Cluster) -> Layout:
        """How its machines take up the stages of a job."""
        return Layout(one_leg=True)

    def environment(self, cluster: Cluster) -> Mapping[str, str]:
        """Nothing that the user has set: the machines are the cluster's."""
        return {}

    def check(self, resolved: Resolved, plan: Plan, brought: Collection[str] = ()) -> list[str]:
        """Raise InputError for what these machines could not do; returns what should be said besides."""
        from runner.backends.ray.check import check

        check(resolved, plan)
        return []

    def open(self, bundle: Bundle) -> Backend:
        """The machines of a run, for its supervisor."""
        from runner.backends.ray.machines import RayJobsBackend

        return RayJobsBackend(bundle)

    def client(self, bundle: Bundle) -> ClientSide:
        """A run on these machines, as a client sees it."""
        from runner.backends.ray.client import RayClient

        return RayClient(bundle)


RAY_HERE, RAY_CLUSTER = RayHere(), RayCluster()
