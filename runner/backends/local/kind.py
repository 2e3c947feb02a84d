"""What there is to know of plain processes on this machine."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from runner.backends.kind import Kind
from runner.plan.layout import Layout

if TYPE_CHECKING:
    from runner.backends.base import Backend, Outside
    from runner.plan.plan import Plan
    from runner.plan.resolve import Resolved
    from runner.record.bundle import Bundle
    from runner.spec.cluster import Cluster


class LocalKind(Kind):
    """This machine."""

    def layout(self, cluster: Cluster) -> Layout:
        """See `Kind`."""
        return Layout(one_machine=True, one_leg=True)

    def environment(self, cluster: Cluster) -> Mapping[str, str]:
        """See `Kind`: its processes have the environment of who submits."""
        return os.environ

    def check(self, resolved: Resolved, plan: Plan, brought: Collection[str] = ()) -> list[str]:
        """See `Kind`."""
        from runner.backends.local.check import check, check_packages

        check(plan)
        check_packages(resolved, plan, brought)
        return []

    def open(self, bundle: Bundle) -> Backend:
        """See `Kind`."""
        from runner.backends.local.machines import LocalBackend

        return LocalBackend(bundle.root.url, bundle.root.options, bundle.run_id, sealed=bundle.sealed)

    def outside(self, bundle: Bundle) -> Outside:
        """See `Kind`."""
        from runner.backends.local.client import LocalOutside

        return LocalOutside(bundle)


LOCAL = LocalKind()
