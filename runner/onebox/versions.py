"""Every program that is compiled from a Go module: which one, in which version."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One program.

    Args:
        name: what the program is called, and its file.
        module: the Go module, whose version is ``version``.
        package: the main package inside the module, ``""`` for the module itself.
        replace: modules that the module itself takes from folders of its own repository, with the version to take.
        stamp: variables that the linker sets.
        data: folders of the module that are kept beside the program.
        source: the program's only file, for a program of our own; it may import what ``module`` has.
    """

    name: str
    module: str
    version: str
    package: str = ""
    replace: tuple[tuple[str, str], ...] = ()
    stamp: tuple[tuple[str, str], ...] = ()
    data: tuple[str, ...] = ()
    source: str = ""

    @property
    def path(self) -> str:
        """What Go is asked to compile."""
        if self.source:
            return "."
        return f"{self.module}/{self.package}" if self.package else self.module


KUBERNETES = "v1.34.4"
# From 1.35 on the kubelet refuses machines with cgroup v1, which many virtual machines still have.
_LIBRARIES = KUBERNETES.replace("v1.", "v0.", 1)
_STAGING = (
    "api", "apiextensions-apiserver", "apimachinery", "apiserver", "cli-runtime", "client-go", "cloud-provider",
    "cluster-bootstrap", "code-generator", "component-base", "component-helpers", "controller-manager", "cri-api",
    "cri-client", "csi-translation-lib", "dynamic-resource-allocation", "endpointslice", "externaljwt", "kms",
    "kube-aggregator", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet", "metrics",
    "mount-utils", "pod-security-admission", "sample-apiserver", "sample-cli-plugin", "sample-controller",
)  # fmt: skip


def _kubernetes(name: str) -> Part:
    """A program of Kubernetes, which is published with its libraries left to the one who compiles it."""
    major, minor, _ = KUBERNETES.removeprefix("v").split(".")
    stamp = {"gitVersion": KUBERNETES, "gitMajor": major, "gitMinor": minor}
    return Part(
        name,
        "k8s.io/kubernetes",
        KUBERNETES,
        f"cmd/{name}",
        replace=tuple((f"k8s.io/{library}", _LIBRARIES) for library in _STAGING),
        stamp=tuple((f"k8s.io/component-base/version.{variable}", value) for variable, value in stamp.items()),
    )


ETCD = Part("etcd", "go.etcd.io/etcd/server/v3", "v3.6.16")
APISERVER = _kubernetes("kube-apiserver")
CONTROLLER_MANAGER = _kubernetes("kube-controller-manager")
SCHEDULER = _kubernetes("kube-scheduler")
KUBELET = _kubernetes("kubelet")
PROXY = _kubernetes("kube-proxy")
KUBECTL = _kubernetes("kubectl")
KUBERAY = Part("ray-operator", "github.com/ray-project/kuberay/ray-operator", "v1.6.1", data=("config",))
COREDNS = Part("coredns", "github.com/coredns/coredns", "v1.15.0")
S3 = Part("versitygw", "github.com/versity/versitygw", "v1.8.0", "cmd/versitygw")
KUEUE = Part("kueue", "sigs.k8s.io/kueue", "v0.18.3", "cmd/kueue", data=("config",))
# Its own program wants to run in a pod; ours is a frame around the same judge. The libraries of Kubernetes are those
# that the rest has, so that they are compiled once.
POLICIES = Part(
    "kube-network-policies",
    "sigs.k8s.io/kube-network-policies",
    "v0.8.0",
    replace=tuple(
        (f"k8s.io/{library}", _LIBRARIES)
        for library in ("api", "apimachinery", "client-go", "component-base", "component-helpers")
    ),
    source=Path(__file__).with_name("policies.go").read_text(),
)
KWOK = Part("kwok", "sigs.k8s.io/kwok", "v0.8.0", "cmd/kwok", data=("kustomize/stage",))


_PAUSE = """package main

import (
	"os"
	"os/signal"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGCHLD)
	for received := range signals {
		if received != syscall.SIGCHLD {
			return
		}
		for {
			if pid, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); pid <= 0 || err != nil {
				break
			}
		}
	}
}
"""
# It waits for a signal and buries orphans, and needs no module.
PAUSE = Part("pause", "", "v1", source=_PAUSE)

NEEDED = (
    S3,
    ETCD,
    APISERVER,
    CONTROLLER_MANAGER,
    SCHEDULER,
    KUBELET,
    PROXY,
    KUBECTL,
    KUBERAY,
    COREDNS,
    PAUSE,
    POLICIES,
)
EVERYTHING = (*NEEDED, KUEUE, KWOK)
# What only tests start: an emulator of Google Cloud Storage.
GCS = Part("fake-gcs-server", "github.com/fsouza/fake-gcs-server", "v1.56.1")
FOR_TESTS = (GCS,)
