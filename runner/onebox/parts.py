"""Every process of the cluster that runs on the machine itself: its command line and how to see that it answers."""

from __future__ import annotations

import ssl

from runner.onebox import build, configs, images, network, versions
from runner.onebox.certs import certificate, key
from runner.onebox.packages import program
from runner.onebox.places import (
    API,
    GATEWAY,
    KUBELET,
    NODE,
    PIDS,
    PODS,
    ROOT,
    S3_DATA,
    S3_URL,
    SERVICES,
    kubeconfig,
)
from runner.onebox.processes import Process, answers, unverified


def _flags(values: dict[str, object]) -> tuple[str, ...]:
    """``--name=value`` for each."""
    return tuple(f"--{name}={value}" for name, value in values.items())


def etcd() -> Process:
    """The cluster's memory; it does not wait for the disk, for nothing in it is worth that."""
    flags = {
        "name": NODE,
        "data-dir": ROOT / "etcd",
        "unsafe-no-fsync": "true",
        "listen-client-urls": "https://127.0.0.1:2379",
        "advertise-client-urls": "https://127.0.0.1:2379",
        "listen-peer-urls": "http://127.0.0.1:2380",
        "initial-advertise-peer-urls": "http://127.0.0.1:2380",
        "initial-cluster": f"{NODE}=http://127.0.0.1:2380",
        "listen-metrics-urls": "http://127.0.0.1:2381",
        "client-cert-auth": "true",
        "trusted-ca-file": certificate("ca"),
        "cert-file": certificate("etcd"),
        "key-file": key("etcd"),
    }
    return Process(
        "etcd",
        (str(build.program(versions.ETCD)), *_flags(flags)),
        ready=lambda: answers("http://127.0.0.1:2381/health"),
        listens=(("127.0.0.1", 2379), ("127.0.0.1", 2380), ("127.0.0.1", 2381)),
    )


def apiserver() -> Process:
    """The API, on the bridge's address alone: pods, the machine and nobody else reach it."""
    flags = {
        "bind-address": GATEWAY,
        "advertise-address": GATEWAY,
        "secure-port": 6443,
        "service-cluster-ip-range": SERVICES,
        "authorization-mode": "Node,RBAC",
        "allow-privileged": "true",
        "enable-bootstrap-token-auth": "false",
        "etcd-servers": "https://127.0.0.1:2379",
        "etcd-cafile": certificate("ca"),
        "etcd-certfile": certificate("etcd"),
        "etcd-keyfile": key("etcd"),
        "client-ca-file": certificate("ca"),
        "tls-cert-file": certificate("apiserver"),
        "tls-private-key-file": key("apiserver"),
        "kubelet-certificate-authority": certificate("ca"),
        "kubelet-client-certificate": certificate("kubelet-client"),
        "kubelet-client-key": key("kubelet-client"),
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": "https://kubernetes.default.svc",
        "service-account-key-file": key("service-account").with_suffix(".pub"),
        "service-account-signing-key-file": key("service-account"),
        "requestheader-client-ca-file": certificate("front-proxy-ca"),
        "requestheader-allowed-names": "front-proxy-client",
        "requestheader-extra-headers-prefix": "X-Remote-Extra-",
        "requestheader-group-headers": "X-Remote-Group",
        "requestheader-username-headers": "X-Remote-User",
        "proxy-client-cert-file": certificate("front-proxy"),
        "proxy-client-key-file": key("front-proxy"),
    }
    return Process(
        "kube-apiserver",
        (str(build.program(versions.APISERVER)), *_flags(flags)),
        ready=lambda: answers(f"{API}/readyz", ssl.create_default_context(cafile=str(certificate("ca")))),
        listens=((GATEWAY, 6443),),
    )


def controller_manager() -> Process:
    """What makes pods of jobs, and takes away what belongs to something that is gone."""
    config = kubeconfig("controller-manager")
    flags = {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "bind-address": "127.0.0.1",
        "root-ca-file": certificate("ca"),
        "service-account-private-key-file": key("service-account"),
        "use-service-account-credentials": "true",
        "flex-volume-plugin-dir": configs.VOLUME_PLUGINS,
        "leader-elect": "false",
    }
    return Process(
        "kube-controller-manager",
        (str(build.program(versions.CONTROLLER_MANAGER)), *_flags(flags)),
        ready=lambda: answers("https://127.0.0.1:10257/healthz", unverified()),
        listens=(("127.0.0.1", 10257),),
    )


def scheduler() -> Process:
    """What gives pods to nodes."""
    config = kubeconfig("scheduler")
    flags = {
        "kubeconfig": config,
        "authentication-kubeconfig": config,
        "authorization-kubeconfig": config,
        "bind-address": "127.0.0.1",
        "leader-elect": "false",
    }
    return Process(
        "kube-scheduler",
        (str(build.program(versions.SCHEDULER)), *_flags(flags)),
        ready=lambda: answers("https://127.0.0.1:10259/healthz", unverified()),
        listens=(("127.0.0.1", 10259),),
    )


def containerd() -> Process:
    """The container runtime, apart from any other containerd of this machine."""
    return Process(
        "containerd",
        (program("containerd"), "--config", str(configs.CONTAINERD_CONFIG)),
        ready=images.containerd_answers,
    )


def kubelet() -> Process:
    """What runs the pods."""
    flags = {
        "config": configs.KUBELET_CONFIG,
        "kubeconfig": kubeconfig("kubelet"),
        "root-dir": KUBELET,
        "cert-dir": KUBELET / "pki",
        "hostname-override": NODE,
        "node-ip": GATEWAY,
    }
    return Process(
        "kubelet",
        (str(build.program(versions.KUBELET)), *_flags(flags)),
        ready=lambda: answers("http://127.0.0.1:10248/healthz"),
        listens=((GATEWAY, 10250), ("127.0.0.1", 10248)),
    )


def proxy() -> Process:
    """What leads the addresses of services to pods; it leaves the size of the kernel's table of connections alone."""
    flags = {
        "kubeconfig": kubeconfig("proxy"),
        "hostname-override": NODE,
        "proxy-mode": "iptables",
        "cluster-cidr": PODS,
        "masquerade-all": str(not network.bridge_filtered()).lower(),
        "conntrack-max-per-core": 0,
        "conntrack-tcp-timeout-established": 0,
        "conntrack-tcp-timeout-close-wait": 0,
        "healthz-bind-address": "127.0.0.1:10256",
        "metrics-bind-address": "127.0.0.1:10249",
    }
    return Process(
        "kube-proxy",
        (str(build.program(versions.PROXY)), *_flags(flags)),
        ready=lambda: answers("http://127.0.0.1:10256/healthz"),
        listens=(("127.0.0.1", 10256), ("127.0.0.1", 10249)),
    )


def policies() -> Process:
    """What judges the connections of pods by the NetworkPolicies. While it is away, pods make no new ones."""
    flags = {
        "kubeconfig": kubeconfig("policies"), "node": NODE, "queue": network.QUEUE, "listen": "127.0.0.1:10261",
    }  # fmt: skip
    return Process(
        "kube-network-policies",
        (str(build.program(versions.POLICIES)), *_flags(flags)),
        ready=lambda: answers("http://127.0.0.1:10261/healthz"),
        listens=(("127.0.0.1", 10261),),
    )


def coredns() -> Process:
    """The names of services and pods."""
    return Process(
        "coredns",
        (str(build.program(versions.COREDNS)), "-conf", str(configs.COREFILE)),
        ready=lambda: answers("http://127.0.0.1:8181/ready"),
        listens=((GATEWAY, 53), ("127.0.0.1", 8181)),
    )


def s3(access: str, secret: str) -> Process:
    """An S3 server over a folder; a bucket is a folder in it."""
    host, port = S3_URL.removeprefix("http://").split(":")
    data, meta = S3_DATA / "data", S3_DATA / "meta"
    return Process(
        "s3",
        (str(build.program(versions.S3)), "--port", f"{host}:{port}", "posix", "--sidecar", str(meta), str(data)),
        ready=lambda: answers(S3_URL, any_status=True),
        listens=((host, int(port)),),
        environment={"ROOT_ACCESS_KEY": access, "ROOT_SECRET_KEY": secret},
    )


def recorded() -> list[str]:
    """The names of all programs that were ever started here."""
    return sorted(file.stem for file in PIDS.glob("*.json"))
