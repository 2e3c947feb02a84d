"""What there is to know of a kind of machines: everything that the rest of runner asks about a backend."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar

from runner.plan.layout import Layout

if TYPE_CHECKING:
    from runner.backends.base import Backend, ClientSide
    from runner.plan.plan import Plan
    from runner.plan.resolve import Resolved
    from runner.record import Bundle
    from runner.spec import Cluster


class Kind:
    """A kind of machines. It has no state, and imports what is heavy only where it is asked for.

    Another kind derives from this class and says what is different; `open`, `outside` and `environment` every kind has
    to say for itself.

    Attributes:
        remote: a run's processes are on other machines than who submits it: its code and its store must get there.
        shared: others are at work on the same machines, so that a gang may have to wait for room.
        on_ray: stages run in a Ray; otherwise in plain processes of the driver.
        launches_early: the supervisor is made before the run exists: it waits for the first entry of the log, or leaves
            and takes all of it away (`abandon`).
        restarts: a supervisor that ends without having ended its run is started again by its machines: to be asked to
            leave is no cancel.
        supervised_here: the process that submits a run is its supervisor as well.
    """

    remote: ClassVar[bool] = False
    shared: ClassVar[bool] = False
    on_ray: ClassVar[bool] = False
    launches_early: ClassVar[bool] = False
    restarts: ClassVar[bool] = False
    supervised_here: ClassVar[bool] = False

    def layout(self, cluster: Cluster) -> Layout:
        """How its machines take up the stages of a job."""
        return Layout()

    def environment(self, cluster: Cluster) -> Mapping[str, str]:
        """The variables that the user has set for a run's processes."""
        raise NotImplementedError

    def check(self, resolved: Resolved, plan: Plan, brought: Collection[str] = ()) -> list[str]:
        """What can be known of the machines before any is asked for.

        Args:
            brought: normal names of packages that the job brings to them.

        Returns:
            What is no hindrance and should be said, in sentences.

        Raises:
            InputError: something would not work; nothing was made.
        """
        return []

    def open(self, bundle: Bundle) -> Backend:
        """The machines of a run, for its supervisor."""
        raise NotImplementedError

    def client(self, bundle: Bundle) -> ClientSide:
        """A run as a client sees it: it launches the supervisor, and tells what is waited for."""
        raise NotImplementedError

    def abandon(self, bundle: Bundle) -> bool:
        """Remove all of a run that never came to exist: its client died before it wrote the first entry of the log.

        Only a kind that `launches_early` is asked, from within the supervisor.

        Returns:
            Whether that was so: a client that was only slow may have written it at the last moment.
        """
        raise NotImplementedError

    def place(self, bundle: Bundle) -> str:
        """Where the supervisor of a run is, for `living`; "" where only its log tells how it can be found."""
        return ""

    def living(self, place: str) -> set[str] | None:
        """The runs at a `place` whose supervisors live; None where that cannot be asked."""
        return None
