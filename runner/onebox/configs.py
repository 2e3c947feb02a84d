"""The configuration files of containerd, the network plugins, the kubelet and CoreDNS."""

from __future__ import annotations

import json
from pathlib import Path

from runner.onebox import certs, packages
from runner.onebox.places import CONFIG, CONTAINERD, GATEWAY, KUBELET, LEASES, NETWORK, NODE, PODS, SOCKET, kubeconfig

NETWORKS = CONFIG / "net.d"
CONTAINERD_CONFIG = CONFIG / "containerd.toml"
KUBELET_CONFIG = CONFIG / "kubelet.json"
COREFILE = CONFIG / "Corefile"
EMPTY = CONFIG / "resolv.conf"
VOLUME_PLUGINS = KUBELET / "volume-plugins"
POD_LOGS = KUBELET.parent / "pod-logs"


def write(pause: str) -> None:
    """Write every file; a program that runs keeps what it read when it started."""
    NETWORKS.mkdir(parents=True, exist_ok=True)
    EMPTY.write_text("")
    CONTAINERD_CONFIG.write_text(_containerd(pause))
    (NETWORKS / "10-onebox.conflist").write_text(json.dumps(_network(), indent=2))
    KUBELET_CONFIG.write_text(json.dumps(_kubelet(), indent=2))
    COREFILE.write_text(_corefile(Path("/etc/resolv.conf")))


def _containerd(pause: str) -> str:
    """Everything in our own folder, and no plugin that this does not need.

    A machine without CAP_SYS_RESOURCE cannot lower a process's OOM score, and every sandbox would die of trying:
    hence ``restrict_oom_score_adj``.
    """
    return f"""version = 2
root = "{CONTAINERD}/root"
state = "{CONTAINERD}/state"
disabled_plugins = [
  "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
]

[grpc]
address = "{SOCKET}"

[plugins."io.containerd.internal.v1.opt"]
path = "{CONTAINERD}/opt"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{pause}"
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
stream_server_address = "127.0.0.1"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{packages.plugin_folder()}"
conf_dir = "{NETWORKS}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
Root = "{CONTAINERD}/runc"
SystemdCgroup = false
"""


def _network() -> dict[str, object]:
    """Pods on a bridge, with addresses that are given out from a folder of ours."""
    addresses = {
        "type": "host-local",
        "dataDir": str(LEASES),
        "ranges": [[{"subnet": PODS, "gateway": GATEWAY}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True, "hairpinMode": True}
    return {
        "cniVersion": "0.4.0",
        "name": NETWORK,
        "plugins": [{**bridge, "ipam": addresses}, {"type": "portmap", "capabilities": {"portMappings": True}}],
    }


def _kubelet() -> dict[str, object]:
    """A kubelet that listens to the cluster only, and never takes an image or a pod away for want of disk."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": GATEWAY,
        "healthzBindAddress": "127.0.0.1",
        "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(certs.certificate("ca"))}},
        "authorization": {"mode": "Webhook"},
        "tlsCertFile": str(certs.certificate("kubelet-server")),
        "tlsPrivateKeyFile": str(certs.key("kubelet-server")),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "clusterDNS": [GATEWAY],
        "clusterDomain": "cluster.local",
        "resolvConf": str(EMPTY),
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "50Mi", "nodefs.available": "1%", "imagefs.available": "1%"},
        "podLogsDir": str(POD_LOGS),
        "volumePluginDir": str(VOLUME_PLUGINS),
        "nodeStatusUpdateFrequency": "5s",
    }


def _corefile(resolver: Path) -> str:
    """The cluster's names, and everything else as the machine itself resolves it."""
    upstream = ""
    if resolver.exists() and any(line.startswith("nameserver") for line in resolver.read_text().splitlines()):
        upstream = f"    forward . {resolver}\n"
    return f""".:53 {{
    bind {GATEWAY}
    errors
    ready 127.0.0.1:8181
    kubernetes cluster.local in-addr.arpa {{
        kubeconfig {kubeconfig("coredns")} {NODE}
        pods insecure
        ttl 5
    }}
{upstream}    cache 5
}}
"""
