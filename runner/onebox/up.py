"""Brings the cluster up: what runs is kept, what is not there is started."""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
import time
from collections.abc import Callable

from runner.code import extras
from runner.errors import InputError
from runner.kube.team.objects import supervisor_objects
from runner.onebox import build, certs, configs, credentials, images, network, operators, packages, parts, versions
from runner.onebox.kubectl import apply, await_rollout, get, kubectl
from runner.onebox.places import BUCKET, GPUS, LOGS, NODE, PIDS, ROOT, S3_DATA
from runner.onebox.processes import Process, await_ready, running, start
from runner.onebox.remains import check_alone, forget_dead_pods

Say = Callable[[str], None]
#: Seconds for which a program that was just killed may still hold its port.
FREE_S = 10.0


def check_machine() -> None:
    """Raise unless this is a Linux where we may do what a container runtime must."""
    if not sys.platform.startswith("linux"):
        raise InputError("a one-machine cluster needs Linux", todo="use a Linux machine or a virtual one")
    if os.geteuid() != 0:
        raise InputError("a one-machine cluster is started and removed by root", todo="say the same with sudo")


def prepare(*, kueue: bool, say: Say) -> None:
    """Install packages and compile programs; nothing of this is repeated on a machine that has them."""
    packages.ensure(say)
    for part in (*versions.NEEDED, *((versions.KUEUE,) if kueue else ())):
        build.build(part, say)


def up(*, kueue: bool, say: Say) -> None:
    """Bring all of it up, and return when all of it answers."""
    check_machine()
    extras.need("onebox", "a one-machine cluster")
    check_alone()
    prepare(kueue=kueue, say=say)
    began = time.monotonic()
    ROOT.mkdir(parents=True, exist_ok=True)
    with build.locked(ROOT / ".lock"):
        _lay_ground()
        _start_machine()
        _start_control()
        _fill()
        say(f"node ready, KubeRay and S3 answer after {time.monotonic() - began:.1f} s")
        if kueue:
            _start_kueue()
            say(f"Kueue answers after {time.monotonic() - began:.1f} s")


def _lay_ground() -> None:
    """Folders, certificates, configuration files, the bridge."""
    for folder in (LOGS, PIDS, S3_DATA / "data" / BUCKET, S3_DATA / "meta"):
        folder.mkdir(parents=True, exist_ok=True)
    network.remember()
    network.forward()
    network.make_bridge()
    certs.ensure()
    credentials.ensure()
    configs.write(images.PAUSE)


def _start_machine() -> None:
    """What needs nothing else: etcd, containerd and its images, the S3 server; and the API, which takes its time."""
    if not running("containerd"):
        forget_dead_pods()
    etcd, containerd, s3 = parts.etcd(), parts.containerd(), parts.s3(*credentials.read())
    _begin(etcd, containerd, s3)
    await_ready(etcd)
    _begin(parts.apiserver())
    await_ready(containerd)
    for image in (images.pause(), images.kuberay(), images.host()):
        images.ensure(image)
    await_ready(s3)


def _start_control() -> None:
    """What needs the API."""
    await_ready(parts.apiserver())
    rest = [parts.controller_manager(), parts.scheduler(), parts.kubelet(), parts.proxy(), parts.coredns()]
    rest.append(parts.policies())
    _begin(*rest)
    network.enforce_policies()
    operators.start_kuberay()
    for process in rest:
        await_ready(process)


def _fill() -> None:
    """A node that is ready and has the GPUs it pretends, the credentials, and KubeRay at work."""
    kubectl("wait", "--for=create", f"node/{NODE}", "--timeout=60s")
    kubectl("wait", "--for=condition=Ready", f"node/{NODE}", "--timeout=60s")
    pretend_gpus()
    kubectl("wait", "--for=create", "serviceaccount/default", "--namespace=default", "--timeout=60s")
    apply([credentials.secret_object(), *supervisor_objects("default")])
    await_rollout(operators.KUBERAY_NAMESPACE, operators.KUBERAY_DEPLOYMENT)


def pretend_gpus() -> None:
    """Give the node GPUs that the scheduler, quotas and Ray count; nothing computes on them."""
    capacity = get("node", NODE)["status"]["capacity"]
    if all(capacity.get(name) == str(count) for name, count in GPUS.items()):
        return
    status = {name: str(count) for name, count in GPUS.items()}
    patch = json.dumps({"status": {"capacity": status, "allocatable": status}})
    kubectl("patch", "node", NODE, "--subresource=status", "--type=merge", "--patch", patch)


def _start_kueue() -> None:
    """Kueue: first itself, then what asks it."""
    images.ensure(images.kueue())
    operators.start_kueue()
    await_rollout(operators.KUEUE_NAMESPACE, operators.KUEUE_DEPLOYMENT)
    operators.finish_kueue()


def _begin(*processes: Process) -> None:
    """Start those that do not run, after seeing that no other program has their place."""
    for process in processes:
        if not running(process.name):
            _check_free(process)
            start(process)


def _check_free(process: Process) -> None:
    """Raise if an address that the program listens on is taken, and stays so."""
    for host, port in process.listens:
        deadline = time.monotonic() + FREE_S
        while _is_taken(host, port):
            if time.monotonic() < deadline:
                time.sleep(0.1)  # nobody tells when the kernel is done with the sockets of a program that was killed
                continue
            raise InputError(
                f"{process.name} cannot listen on {host}:{port}: another program does",
                todo=f"see which with `ss -ltnp sport = :{port}`, and end it if it may be ended",
            )


def _is_taken(host: str, port: int) -> bool:
    try:
        socket.create_server((host, port)).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return True
    return False
