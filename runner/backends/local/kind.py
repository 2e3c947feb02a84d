"""What there is to know of plain processes on this machine."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from runner.backends.kind import Kind
from runner.plan.layout import Layout

if TYPE_CHECKING:
    from runner.backends.base import Backend, ClientSide
    from runner.plan.plan import Plan
    from runner.plan.resolve import Resolved
    from runner.record import Bundle
    from runner.spec import Cluster


class LocalKind(Kind):
    """This machine."""

    def layout(self, cluster: Cluster) -> Layout:
        """How its machines take up the stages of a job."""
        return Layout(one_machine=True, one_leg=True)

    def environment(self, cluster: Cluster) -> Mapping[str, str]:
        """That of who submits, which its processes have."""
        return os.environ

    def check(self, resolved: Resolved, plan: Plan, brought: Collection[str] = ()) -> list[str]:
        """Raise InputError for what these machines could not do; returns what should be said besides."""
        from runner.backends.local.check import check, check_packages

        check(plan)
        check_packages(resolved, plan, brought)
        return []

    def open(self, bundle: Bundle) -> Backend:
        """The machines of a run, for its supervisor."""
        from runner.backends.local.machines import LocalBackend

        return LocalBackend(bundle.root.url, bundle.root.options, bundle.run_id, sealed=bundle.sealed)

    def client(self, bundle: Bundle) -> ClientSide:
        """A run on these machines, as a client sees it."""
        from runner.backends.local.client import LocalClient

        return LocalClient(bundle)


LOCAL = LocalKind()
