"""The Kubernetes on this machine that `make cluster` starts. Its pods see the machine's own Python and packages."""

import sys

from runner import Cluster, Group, Kubernetes, Volume

#: Folders of this machine that every pod mounts read-only at the same place, instead of an image of some gigabytes.
folders = dict.fromkeys(["/usr", sys.base_prefix, sys.prefix])
volumes = tuple(Volume(mount=path, host_path=path, read_only=True) for path in folders if path != "/usr/local")

cluster = Cluster(
    backend="kuberay",
    groups={
        "cpu": Group(cpu=0.5, memory="2GiB", max=4),
        "gpu": Group(cpu=0.5, memory="3GiB", gpu=1, max=4, pretend_gpu=True),
    },
    kubernetes=Kubernetes(
        image="localhost/runner-host:1",
        image_pull_policy="Never",
        secrets=("lake-credentials",),
        environment={"PATH": f"{sys.prefix}/bin:/usr/local/bin:/usr/bin:/bin"},
        volumes=volumes,
        head=Group(cpu=0.3, memory="3GiB"),
        supervisor=Group(cpu=0.1, memory="512MiB"),
        start_deadline_s=600,
    ),
)
