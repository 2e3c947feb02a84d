"""A team's share of a cluster: what may be asked for it, and the marks of what is made for it."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.kube.quantities import amount
from runner.spec.checks import Fields
from runner.spec.cluster import SUPERVISOR, VENDORS

#: The ServiceAccount of supervisors, as `Kubernetes(service_account=)` has it by default.
ACCOUNT = "runner"
_NAMESPACE, _NAMESPACE_WORDS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", "lower-case letters, digits and '-'"
_RESOURCE = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?"
#: Names that are the cluster's own, and endings under which a team's objects could be taken for another's.
_RESERVED = {"default", "kuberay-system", "kueue-system"}
_RESERVED_STARTS, _RESERVED_ENDS = ("kube-", "openshift"), ("-system", "-supervisors")
#: What a machine asks for by fields of its own, and so cannot be a `--resource`.
_NATIVE = ("cpu", "memory", "ephemeral-storage", "pods", "storage")
#: Of everything that is made here.
LABELS = {"app.kubernetes.io/managed-by": "lake-runner"}
#: Whose it is; of what all teams share nobody's.
TEAM = "lake-runner/tenant"
GIB = 1 << 30


@dataclass(frozen=True)
class Destination:
    """Where pods may call.

    Args:
        network: such as '10.0.0.0/8'.
        port: of TCP and UDP; None: every port of every protocol.
    """

    network: str
    port: int | None = None

    @classmethod
    def parse(cls, text: str) -> Destination:
        """'10.0.0.0/8', '10.1.2.3:443', 'fd00::/8' or '[fd00::1]:443'. Raises ValueError."""
        found = re.fullmatch(r"\[(?P<long>[^\]]+)\](:(?P<a>\d+))?|(?P<short>[^:]+)(:(?P<b>\d+))?", text)
        where, port = (text, None) if found is None else (found["long"] or found["short"], found["a"] or found["b"])
        made = cls(str(ipaddress.ip_network(where)), None if port is None else int(port))
        if made.port is not None and not 1 <= made.port <= 65535:
            raise ValueError(text)
        return made

    def holds(self, address: str, port: int) -> bool:
        """Whether that may be called through it."""
        return self.port in (None, port) and ipaddress.ip_address(address) in ipaddress.ip_network(self.network)


@dataclass(frozen=True)
class Tenant:
    """A team's share of a cluster.

    Args:
        name: of the team: its namespace and queue.
        cpus, memory, gpus: its share; memory in bytes.
        most_cpus, most_memory, most_gpus: what it may hold while other teams leave their shares idle; None: its share.
        vendor: of the GPUs.
        users, groups: who may make runs, as the API knows them.
        queue: whether Kueue shares the quota out.
        host_paths: whether pods may mount folders of their nodes.
        operator: the namespace of the KubeRay operator, which asks Ray's dashboards how jobs stand.
        supervisors: how many runs may have a supervisor at one time, where a queue shares the quota out. They have a
            queue
            of their own: in that of the machines they would wait behind what they are to watch.
        resources: of others than cores, memory and the vendor's GPUs: (name, how many). Any that is not named is
            refused.
        storage: bytes that claims to volumes may have together; 0: none may be made.
        pods: at one time; None: ten for each core, 500 at least.
        scratch: bytes of its node's disk that a container may fill unless it asks for more or less.
        accounts: ServiceAccounts that pods may have besides `runner` and `default`.
        egress: where pods may call, as `Destination.parse` has it, beside each other and DNS; empty: anywhere, but for
            the
            addresses at which clouds tell machines their secrets.
        metadata: whether those may be called too.
    """

    name: str
    cpus: float
    memory: int
    gpus: int = 0
    vendor: str = "nvidia"
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    queue: bool = True
    host_paths: bool = False
    operator: str = "kuberay-system"
    supervisors: int = 20
    most_cpus: float | None = None
    most_memory: int | None = None
    most_gpus: int | None = None
    resources: tuple[tuple[str, int], ...] = ()
    storage: int = 0
    pods: int | None = None
    scratch: int = 100 * GIB
    accounts: tuple[str, ...] = ()
    egress: tuple[str, ...] = ()
    metadata: bool = False

    def __post_init__(self) -> None:
        fields = Fields("runner admin tenant")
        fields.name(
            "NAME",
            self.name,
            longest=50,
            pattern=_NAMESPACE,
            words=_NAMESPACE_WORDS,
        )
        self._check_reserved(fields)
        fields.one_of("--vendor", self.vendor, VENDORS)
        fields.name("--operator-namespace", self.operator, longest=63, pattern=_NAMESPACE, words=_NAMESPACE_WORDS)
        fields.integer("--supervisors", self.supervisors, 1)
        fields.number("--cpus", self.cpus, 0)
        fields.integer("--gpus", self.gpus, 0)
        fields.integer("--storage", self.storage, 0)
        fields.integer("--scratch", self.scratch, 1)
        if self.pods is not None:
            fields.integer("--pods", self.pods, 1)
        for resource in ("cpus", "memory", "gpus"):
            self._check_most(fields, f"--most-{resource}", getattr(self, f"most_{resource}"), getattr(self, resource))
        self._check_resources(fields)
        for account in self.accounts:
            fields.name("--service-account", account, longest=63, pattern=_NAMESPACE, words=_NAMESPACE_WORDS)
        for text in self.egress:
            try:
                Destination.parse(text)
            except ValueError:
                allowed = "addresses: '10.0.0.0/8', '10.1.2.3:443', '[fd00::1]:443'"
                todo = "look the addresses of a name up; network policies know no names"
                raise fields.fail("--egress", text, allowed, todo) from None

    def _check_reserved(self, fields: Fields) -> None:
        own = {*_RESERVED, self.operator}
        if self.name in own or self.name.startswith(_RESERVED_STARTS) or self.name.endswith(_RESERVED_ENDS):
            starts, ends = (" or ".join(map(repr, each)) for each in (_RESERVED_STARTS, _RESERVED_ENDS))
            allowed = f"none of {', '.join(sorted(own))}, and nothing that begins with {starts} or ends in {ends}"
            raise fields.fail("NAME", self.name, allowed, "choose another")

    def _check_most(self, fields: Fields, option: str, most: float | None, share: float) -> None:
        if most is None:
            return
        if not self.queue:
            raise fields.fail(option, most, "nothing with --no-kueue", "without queues nobody gets a lent share back")
        if most < share:
            what = option.removeprefix("--most-")
            shown, least = amount(what, most), f"its share, which is {amount(what, share)}, or more"
            raise fields.fail(
                option, shown, least, f"give more, or leave it out: then the team holds its {what} at most"
            )

    def _check_resources(self, fields: Fields) -> None:
        seen = {VENDORS[self.vendor]}
        for name, count in self.resources:
            if name in _NATIVE or name in seen or not re.fullmatch(_RESOURCE, name):
                allowed = "names such as nvidia.com/mig-1g.10gb, each once, and not what another option gives"
                raise fields.fail("--resource", name, allowed, "NAME=COUNT, as `kubectl describe node` has the name")
            fields.integer(f"--resource {name}", count, 0)
            seen.add(name)

    @property
    def share(self) -> dict[str, str]:
        """What may be asked for at one time."""
        return self._amounts(self.cpus, self.memory, self.gpus)

    @property
    def most(self) -> dict[str, str]:
        """What it may hold at one time where others leave theirs idle."""
        own = ((self.most_cpus, self.cpus), (self.most_memory, self.memory), (self.most_gpus, self.gpus))
        return self._amounts(*(share if most is None else most for most, share in own))

    def _amounts(self, cpus: float, memory: float, gpus: float) -> dict[str, str]:
        own = {"cpu": f"{cpus:g}", "memory": str(int(memory)), VENDORS[self.vendor]: str(int(gpus))}
        return own | {name: str(count) for name, count in self.resources}

    @property
    def supervisors_share(self) -> dict[str, str]:
        """What supervisors may hold at one time besides; nothing where no queue tells them from machines."""
        if not self.queue:
            return {}
        memory = int(SUPERVISOR.memory or 0) * self.supervisors
        return {"cpu": f"{SUPERVISOR.cpu * self.supervisors:g}", "memory": str(memory)}

    @property
    def supervisor_queue(self) -> str:
        """The LocalQueue of its supervisors."""
        return f"{self.name}-supervisors"

    @property
    def most_pods(self) -> int:
        """At one time."""
        return max(500, int(10 * (self.most_cpus or self.cpus))) if self.pods is None else self.pods

    @property
    def most_scratch(self) -> int:
        """Bytes of disk of their nodes that all its containers may fill: a head that grows has two."""
        return 2 * self.most_pods * self.scratch

    @property
    def destinations(self) -> list[Destination]:
        """Of `egress`."""
        return [Destination.parse(text) for text in self.egress]


def labels(team: str) -> dict[str, str]:
    """Of what is made for a team."""
    return {**LABELS, TEAM: team}


def is_ours(body: Mapping[str, Any], team: str | None = None) -> bool:
    """Whether an object was made here, and not by somebody who had the same idea for its name.

    Args:
        team: for which it must have been made; what has no mark of a team is of all, or of before there were marks.
    """
    found = body["metadata"].get("labels") or {}
    return found.items() >= LABELS.items() and (team is None or found.get(TEAM, team) == team)


def of_team(team: str, kind: str, api: str, name: str, namespaced: bool = True, **body: Any) -> dict[str, Any]:
    """An object of a team: in its namespace, or of the whole cluster and marked as its."""
    metadata: dict[str, Any] = {"name": name, "labels": labels(team)}
    if namespaced:
        metadata["namespace"] = team
    return {"apiVersion": api, "kind": kind, "metadata": metadata, **body}


def of_all(kind: str, api: str, name: str, **body: Any) -> dict[str, Any]:
    """An object of the whole cluster that all teams share."""
    return {"apiVersion": api, "kind": kind, "metadata": {"name": name, "labels": dict(LABELS)}, **body}
