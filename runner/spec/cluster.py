"""Where a job runs: Cluster, Group, and what Kubernetes needs to know besides. Frozen values, checked when made."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from runner.spec import backends
from runner.spec.checks import Fields, checked, parse_bytes
from runner.untrusted import switches

VENDORS = {"nvidia": "nvidia.com/gpu", "amd": "amd.com/gpu"}

_NAME_WORDS = "lower-case letters, digits and '-', a letter first"
_OBJECT = r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?"
_OBJECT_WORDS = "the name of a Kubernetes object: lower-case letters, digits, '-' and '.'"
_REQUIREMENT = (
    r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?(\[[A-Za-z0-9._, -]+\])?\s*([<>=!~][A-Za-z0-9.*+!<>=~, -]*)?(;.*)?"
)
_IMAGE = r"[a-z0-9]([a-z0-9._:/-]*[a-z0-9])?(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?"


def package_names(fields: Fields, value: Any) -> tuple[str, ...]:
    """Requirements as pip knows them; PyTorch is the image's, for it must fit the machine's driver."""
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise fields.fail("packages", value, "a tuple of requirements", "write packages=('humanize',)")
    for one in value:
        fields.name(
            "packages", one, longest=200, pattern=_REQUIREMENT, words="a requirement such as 'tokenizers>=0.20'"
        )
        if re.split(r"[^A-Za-z0-9._-]", one)[0].lower() in ("torch", "ray"):
            raise fields.fail("packages", one, "any package but torch and ray", "they come with the image")
    return tuple(value)


def _mapping(fields: Fields, name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise fields.fail(name, value, "a mapping")


@checked
@dataclass(frozen=True)
class Group:
    """A shape of machine and how many of them there may be.

    Args:
        cpu: cores of one machine.
        memory: of one machine, in bytes or as '4GiB'; None: not limited (on Kubernetes it must be given).
        gpu: GPUs of one machine; 0 for none.
        max: the most machines at a time; None: not limited.
        price_per_hour: of one machine, in any one currency; shown as the plan's cost.
        vendor: 'nvidia' or 'amd': which resource of Kubernetes the GPUs are.
        resource: another name of that resource, such as 'nvidia.com/mig-1g.10gb'.
        pretend_gpu: the GPUs are only numbers for the scheduler (to try things out): train on the CPU. Without it a
            rank that finds no GPU fails at once.
        node_selector: labels that the machine must have, such as the kind of its GPU.
        tolerations: of Kubernetes, as in a pod.
        pod_template: a partial pod template, merged last over the one of this group's machines.
        autoscaled: nodes for it may be made when they are needed: preflight does not refuse what no node could hold
            now.
    """

    cpu: float = 1
    memory: int | str | None = None
    gpu: int = 0
    max: int | None = None
    price_per_hour: float | None = None
    vendor: str = "nvidia"
    resource: str | None = None
    pretend_gpu: bool = False
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    pod_template: Mapping[str, Any] = field(default_factory=dict)
    autoscaled: bool = False

    def __post_init__(self) -> None:
        fields = Fields("Group")
        fields.number("cpu", self.cpu, 0.1)
        fields.integer("gpu", self.gpu, 0)
        if self.memory is not None:
            object.__setattr__(self, "memory", parse_bytes(fields, "memory", self.memory))
        if self.max is not None:
            fields.integer("max", self.max, 1)
        if self.price_per_hour is not None:
            fields.number("price_per_hour", self.price_per_hour, 0.0)
        fields.one_of("vendor", self.vendor, VENDORS)
        _mapping(fields, "node_selector", self.node_selector)
        _mapping(fields, "pod_template", self.pod_template)
        switches.check_template(self.pod_template, "Group(pod_template=)")
        object.__setattr__(self, "tolerations", tuple(self.tolerations))

    @property
    def gpu_resource(self) -> str:
        """What Kubernetes calls one of its GPUs."""
        return self.resource or VENDORS[self.vendor]


#: The machine of a supervisor, unless a cluster says otherwise.
SUPERVISOR = Group(cpu=0.2, memory="512MiB")


@checked
@dataclass(frozen=True)
class Volume:
    """Files in every pod of a run. One of `host_path`, `claim`, `secret`, `config_map` and `memory` says what they are.

    Args:
        mount: the folder in the pod.
        host_path: a folder of the node.
        claim: the name of a PersistentVolumeClaim.
        secret, config_map: the name of one; each of its keys is a file.
        memory: an empty folder in memory, of that size ('1GiB').
        read_only: whether pods may not write.
    """

    mount: str
    host_path: str | None = None
    claim: str | None = None
    secret: str | None = None
    config_map: str | None = None
    memory: int | str | None = None
    read_only: bool = False

    def __post_init__(self) -> None:
        fields = Fields(f"Volume '{self.mount}'")
        if not isinstance(self.mount, str) or not self.mount.startswith("/"):
            raise fields.fail("mount", self.mount, "an absolute path in the pod")
        kinds = ("host_path", "claim", "secret", "config_map", "memory")
        given = [name for name in kinds if getattr(self, name) is not None]
        if len(given) != 1:
            raise fields.fail("mount", self.mount, f"exactly one of {', '.join(kinds)}", f"it has {given or 'none'}")
        if self.memory is not None:
            object.__setattr__(self, "memory", parse_bytes(fields, "memory", self.memory))


@checked
@dataclass(frozen=True)
class Kubernetes:
    """What `backend="kuberay"` needs to know.

    Args:
        image: of every pod: Python with Ray and what the job imports (see docs/kubernetes.md).
        namespace: where everything of a run is made.
        context: of the kubeconfig; None: the current one.
        service_account: of the supervisor, which makes and deletes RayJobs.
        queue: a Kueue LocalQueue of the namespace; None: not queued.
        supervisor_queue: a LocalQueue for the supervisors, with a quota of its own; for where Kueue manages every Job
            of the namespace. None: supervisors are not queued.
        priority: a Kueue WorkloadPriorityClass (with a queue), or a PriorityClass of Kubernetes.
        secrets: names of Secrets whose keys become environment variables of every pod, such as the lake's credentials.
        environment: variables of every pod; no secrets, they can be read in the spec.
        volumes: files in every pod.
        head: the machine of Ray's head, which runs the driver and no worker.
        supervisor: the machine of the supervisor.
        image_pull_secrets: names of Secrets for the registry.
        image_pull_policy: as in a pod.
        start_deadline_s: seconds until a stage's machines must be there.
        lead_s: seconds before the end of a prep stage at which the machines of a training stage that follows are asked
            for, so that they are there when it begins; 0: never. Longer where a cloud must bring the nodes first. With
            a queue it is never done: the quota would be held twice.
        deadline_s: seconds for a stage, waiting included; None: only what the stages say.
        pod_template: a partial pod template, merged last over that of every pod of a run.
    """

    image: str
    namespace: str = "default"
    context: str | None = None
    service_account: str = "runner"
    queue: str | None = None
    supervisor_queue: str | None = None
    priority: str | None = None
    secrets: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[Volume, ...] = ()
    head: Group = field(default_factory=lambda: Group(cpu=1, memory="3GiB"))
    supervisor: Group = SUPERVISOR
    image_pull_secrets: tuple[str, ...] = ()
    image_pull_policy: str = "IfNotPresent"
    start_deadline_s: float = 1800.0
    lead_s: float = 40.0
    deadline_s: float | None = None
    pod_template: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        fields = Fields("Kubernetes")
        fields.name("image", self.image, longest=500, pattern=_IMAGE, words="an image reference such as 'repo/image:1'")
        for name in ("namespace", "service_account"):
            fields.name(name, getattr(self, name), longest=63, pattern=_OBJECT, words=_OBJECT_WORDS)
        for name in ("queue", "supervisor_queue", "priority"):
            if getattr(self, name) is not None:
                fields.name(name, getattr(self, name), longest=63, pattern=_OBJECT, words=_OBJECT_WORDS)
        for name in ("secrets", "image_pull_secrets"):
            object.__setattr__(self, name, _object_names(fields, name, getattr(self, name)))
        _mapping(fields, "environment", self.environment)
        _mapping(fields, "pod_template", self.pod_template)
        switches.check(self.environment, "Kubernetes(environment=)")
        switches.check_template(self.pod_template, "Kubernetes(pod_template=)")
        object.__setattr__(self, "volumes", tuple(self.volumes))
        for volume in self.volumes:
            if not isinstance(volume, Volume):
                raise fields.fail("volumes", volume, "Volume values")
        for name in ("head", "supervisor"):
            group = getattr(self, name)
            if not isinstance(group, Group) or group.memory is None:
                raise fields.fail(name, group, "a Group with memory")
        fields.one_of("image_pull_policy", self.image_pull_policy, ("Always", "IfNotPresent", "Never"))
        fields.number("start_deadline_s", self.start_deadline_s, 1.0)
        fields.number("lead_s", self.lead_s, 0.0)
        if self.deadline_s is not None:
            fields.number("deadline_s", self.deadline_s, 1.0)


@checked
@dataclass(frozen=True)
class Cluster:
    """Where a job runs.

    Args:
        backend: 'local' (plain processes on this machine), 'ray' (a Ray started on this machine for the run, or
            the one at `address`), 'kuberay' (RayJobs on Kubernetes), 'fake' (nothing is started; for tests), or one
            that an installed package adds (entry points of the group `runner.backends`).
        groups: name -> Group; a stage asks for one with ``on=``.
        currency: of the prices, shown with them.
        kubernetes: for 'kuberay'.
        packages: as `Job.packages`, for every job that runs here.
        address: for 'ray': the URL of the dashboard of a Ray cluster that is there already, such as
            'http://head:8265'. Its token, if it asks for one, is taken from RAY_AUTH_TOKEN and never written down.
    """

    backend: str = "local"
    groups: Mapping[str, Group] = field(default_factory=lambda: {"cpu": Group(), "gpu": Group()})
    currency: str = "USD"
    kubernetes: Kubernetes | None = None
    packages: tuple[str, ...] = ()
    address: str | None = None

    def __post_init__(self) -> None:
        fields = Fields("Cluster")
        object.__setattr__(self, "packages", package_names(fields, self.packages))
        if not backends.is_known(self.backend):
            fields.one_of("backend", self.backend, backends.known())
        if not isinstance(self.groups, Mapping) or not self.groups:
            raise fields.fail("groups", self.groups, "a mapping such as {'cpu': Group(cpu=4), 'gpu': Group(gpu=1)}")
        for name, group in self.groups.items():
            fields.name(f"groups key {name!r}", name, longest=20, pattern=r"[a-z][a-z0-9-]*", words=_NAME_WORDS)
            if not isinstance(group, Group):
                raise fields.fail(f"groups[{name!r}]", group, "a Group")
        if (self.backend == "kuberay") != isinstance(self.kubernetes, Kubernetes):
            raise fields.fail(
                "kubernetes", self.kubernetes, "a Kubernetes with backend='kuberay', and None with any other"
            )
        if self.kubernetes is not None:
            self._check_machines(fields)
        if self.address is not None:
            self._check_address(fields)

    @property
    def gpu_resources(self) -> frozenset[str]:
        """What its groups call their GPUs."""
        return frozenset(group.gpu_resource for group in self.groups.values() if group.gpu)

    def _check_address(self, fields: Fields) -> None:
        if self.backend != "ray":
            raise fields.fail("address", self.address, "None, but with backend='ray'")
        if not _is_plain_url(self.address):
            todo = "its token goes into RAY_AUTH_TOKEN" if "@" in str(self.address) else ""
            shown = "(a URL with a password)" if "@" in str(self.address) else self.address
            raise fields.fail("address", shown, "the URL of Ray's dashboard, such as 'http://head:8265'", todo)
        object.__setattr__(self, "address", str(self.address).rstrip("/"))

    def _check_machines(self, fields: Fields) -> None:
        for name, group in self.groups.items():
            if group.memory is None:
                raise fields.fail(
                    f"groups[{name!r}].memory",
                    None,
                    "a size such as '8GiB'",
                    "say it: pods without a limit are killed first",
                )
            if name == "head":
                raise fields.fail("groups", name, "any name but 'head', which KubeRay uses", "rename the group")


def _is_plain_url(address: object) -> bool:
    """http or https, a host, perhaps a port and a path, and nothing that could be a credential."""
    try:
        parts = urlsplit(address) if isinstance(address, str) else None
        _ = parts and parts.port  # raises where it is no number
    except ValueError:
        return False
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        return False
    return not (parts.username or parts.password or parts.query or parts.fragment)


def _object_names(fields: Fields, name: str, value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise fields.fail(name, value, "a tuple of names", f"write {name}=({value!r},)")
    for one in value:
        fields.name(name, one, longest=253, pattern=_OBJECT, words=_OBJECT_WORDS)
    return tuple(value)
