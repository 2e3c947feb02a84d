"""Finds and removes what the cluster leaves on the machine besides its processes."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from runner.errors import InputError
from runner.onebox import network
from runner.onebox.packages import program
from runner.onebox.places import BRIDGE, CONTAINERD, LEASES, ROOT
from runner.onebox.processes import command_line, kill

CGROUPS = Path("/sys/fs/cgroup")
SHIM_SOCKETS = Path("/run/containerd/s")
PLUGIN_CACHE = Path("/var/lib/cni/results")
POD_LINKS = Path("/var/log/containers")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
# Folders that programs make under these names whatever they are told; they go when nobody else uses them.
SHARED = (
    SHIM_SOCKETS,
    SHIM_SOCKETS.parent,
    PLUGIN_CACHE,
    PLUGIN_CACHE.parent,
    POD_LINKS,
    DEVICE_PLUGINS,
    DEVICE_PLUGINS.parent,
)


def remains() -> list[str]:
    """One line for each thing of the cluster that is still on the machine; none after `down`."""
    found = [f"process {pid}: {' '.join(command_line(pid))[:120]}" for pid in processes()]
    found += [f"process {pid} in a pod" for pid in pod_processes()]
    found += [f"mount {path}" for path in mounts()]
    found += [f"control group {path}" for path in cgroups()]
    found += [f"chain {chain}" for chain in network.chains()]
    found += [f"file {path}" for path in shared_files()]
    found += [f"bridge {BRIDGE}"] if network.bridge_exists() else []
    found += [f"folder {ROOT}"] if ROOT.exists() else []
    return found


def check_alone() -> None:
    """Raise if there is another Kubernetes here, before the first start: its pods and rules look like ours."""
    others = [*(str(group) for group in cgroups()), *network.chains()]
    if network.bridge_exists():
        others.append(f"the network bridge {BRIDGE}")
    if others and not ROOT.exists():
        raise InputError(
            f"another Kubernetes or container network is on this machine: {others[0]}",
            todo="remove it, or use a machine (or a virtual one) without",
        )


def processes() -> list[int]:
    """Every process whose command line names our folder: the cluster's programs, and the shims of its containers."""
    pids = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [pid for pid in pids if pid != os.getpid() and any(str(ROOT) in word for word in _program_words(pid))]


def _program_words(pid: int) -> list[str]:
    """The command line of a cluster's program; a shell or an editor that names our folder is none."""
    words = command_line(pid)
    ours = ("etcd", "kubelet", "kube-", "containerd", "coredns", "versitygw", "kwok", "runc", "ctr")
    return words if words and Path(words[0]).name.startswith(ours) else []


def cgroups() -> list[Path]:
    """The control groups of pods, innermost first, in every hierarchy."""
    tops = [*CGROUPS.glob("kubepods"), *CGROUPS.glob("*/kubepods")]
    inner = [path for top in tops for path in top.rglob("*") if path.is_dir()]
    return sorted(inner, key=lambda path: -len(path.parts)) + tops


def pod_processes() -> list[int]:
    """Every process inside a pod."""
    pids: set[int] = set()
    for group in cgroups():
        try:
            pids.update(int(line) for line in (group / "cgroup.procs").read_text().split())
        except OSError:
            continue  # the group has gone, or is of a kind that lists none
    return sorted(pids - {0})


def mounts() -> list[str]:
    """Everything mounted in our folder, the last mounted first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [line.split()[4].encode().decode("unicode_escape") for line in lines]
    return [point for point in reversed(points) if Path(point).is_relative_to(ROOT)]


def shared_files() -> list[Path]:
    """Files of ours in folders that other programs may use too."""
    found = [file for file in PLUGIN_CACHE.glob("*") if str(ROOT) in file.read_text(errors="replace")]
    found += [link for link in POD_LINKS.glob("*") if link.is_symlink() and str(ROOT) in str(link.readlink())]
    return found


def end_everything(timeout_s: float = 20) -> None:
    """End the cluster's programs, then what ran in pods, then the shims; return when all are gone."""
    deadline = time.monotonic() + timeout_s
    while pids := [*processes(), *pod_processes()]:
        for pid in pids:
            kill(pid, signal.SIGKILL)
        for pid in pids:
            _reap(pid)
        if time.monotonic() > deadline:
            raise InputError(f"these processes do not end: {pids}", todo="see what they wait for: cat /proc/PID/stack")
        time.sleep(0.02)


def _reap(pid: int) -> None:
    """Bury a process that this very process started."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return


def unmount() -> None:
    """Unmount everything in our folder; what still is in use leaves when its last user does."""
    for point in mounts():
        done = subprocess.run([program("umount"), point], capture_output=True, check=False)
        if done.returncode != 0:
            subprocess.run([program("umount"), "--lazy", point], capture_output=True, check=False)
    if left := mounts():
        raise InputError(f"cannot unmount {left[0]}", todo="nothing in it was removed; unmount it and say `down` again")


def remove_cgroups(timeout_s: float = 10) -> None:
    """Remove the control groups of pods, which the kernel allows once their last process is buried."""
    deadline = time.monotonic() + timeout_s
    while groups := cgroups():
        for group in groups:
            _remove_group(group)
        if time.monotonic() > deadline:
            raise InputError(f"the control group {groups[0]} cannot be removed", todo="see its cgroup.procs")


def _remove_group(group: Path) -> None:
    try:
        group.rmdir()
    except FileNotFoundError:
        return
    except OSError:
        time.sleep(0.02)  # a process in it is dead and not buried yet; the caller tries again


def remove_shared() -> None:
    """Remove our files from shared folders, and those folders if they are empty then."""
    for path in shared_files():
        path.unlink(missing_ok=True)
    for socket in _dead_sockets():
        socket.unlink(missing_ok=True)
    for folder in SHARED:
        if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
            folder.rmdir()


def _dead_sockets() -> Iterator[Path]:
    """Sockets that shims and the kubelet left and nobody listens on."""
    listening = Path("/proc/net/unix").read_text()
    for folder in (SHIM_SOCKETS, DEVICE_PLUGINS):
        for path in folder.glob("*"):
            if path.is_socket() and str(path) not in listening:
                yield path


def forget_dead_pods() -> None:
    """Before containerd starts: if no shim lives (a reboot, say), remove what it remembers of running containers."""
    if any("containerd-shim" in command_line(pid)[0] for pid in processes()):
        return
    unmount()
    for folder in (CONTAINERD / "state", CONTAINERD / "runc", LEASES):
        shutil.rmtree(folder, ignore_errors=True)
