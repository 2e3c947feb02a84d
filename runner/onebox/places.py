"""Where everything is: folders, names and addresses of the one-machine cluster."""

from __future__ import annotations

from pathlib import Path

ROOT = Path("/var/lib/lake-runner-onebox")
PKI = ROOT / "pki"
CONFIG = ROOT / "config"
LOGS = ROOT / "logs"
PIDS = ROOT / "pids"
KUBECONFIG = ROOT / "kubeconfig"
CREDENTIALS = ROOT / "credentials.json"
BEFORE = ROOT / "before.json"
KUBELET = ROOT / "kubelet"
CONTAINERD = ROOT / "containerd"
SOCKET = CONTAINERD / "containerd.sock"
LEASES = ROOT / "cni"
S3_DATA = ROOT / "s3"

NODE = "onebox"
NETWORK = "lake-runner-onebox"
BRIDGE = "cni0"
GATEWAY = "10.244.0.1"
PODS = "10.244.0.0/24"
SERVICES = "10.96.0.0/16"
FIRST_SERVICE = "10.96.0.1"
API = f"https://{GATEWAY}:6443"
S3_URL = f"http://{GATEWAY}:7070"
BUCKET = "lake"
GPUS = {"nvidia.com/gpu": 4, "amd.com/gpu": 4}


def kubeconfig(user: str) -> Path:
    """The kubeconfig of one of the cluster's own programs."""
    return CONFIG / f"{user}.kubeconfig"
