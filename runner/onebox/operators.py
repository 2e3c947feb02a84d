"""KubeRay and Kueue inside the cluster, from the manifests that their modules come with."""

from __future__ import annotations

import json
import time
from typing import Any

from runner.errors import InputError
from runner.onebox import images, versions
from runner.onebox.certs import certificate, encoded, key
from runner.onebox.kubectl import Object, apply, kubectl, kustomized

KUBERAY_NAMESPACE = "kuberay-system"
KUBERAY_DEPLOYMENT = "kuberay-operator"
KUEUE_NAMESPACE = "kueue-system"
KUEUE_DEPLOYMENT = "kueue-controller-manager"
DEPLOYMENTS = ((KUBERAY_NAMESPACE, KUBERAY_DEPLOYMENT), (KUEUE_NAMESPACE, KUEUE_DEPLOYMENT))
WEBHOOK_SECRET = "kueue-webhook-server-cert"
KUEUE_CONFIG = {
    "apiVersion": "config.kueue.x-k8s.io/v1beta2",
    "kind": "Configuration",
    "health": {"healthProbeBindAddress": ":8081"},
    "metrics": {"bindAddress": ":8443"},
    "webhook": {"port": 9443},
    "leaderElection": {"leaderElect": False},
    "internalCertManagement": {"enable": False},
    "manageJobsWithoutQueueName": False,
    "integrations": {"frameworks": ["batch/job", "ray.io/rayjob"]},
}
# Webhooks of other kinds would be asked about every pod and deployment, and hold all of them up while Kueue is away.
_KUEUE_PATHS = ("kueue-x-k8s-io", "batch-v1-job", "ray-io-v1-rayjob")


def start_kuberay() -> None:
    """The custom resources, the roles and the operator itself."""
    objects = kustomized(versions.KUBERAY, KUBERAY_NAMESPACE)
    deployment = _one(objects, "Deployment", KUBERAY_DEPLOYMENT)
    _fit(deployment, images.KUBERAY)
    container(deployment)["args"].append("--enable-leader-election=false")
    apply([namespace(KUBERAY_NAMESPACE), *objects])


def start_kueue() -> None:
    """Kueue without its webhooks: until it runs they would hold up what they are asked about."""
    objects = _kueue_objects()
    apply([namespace(KUEUE_NAMESPACE), _webhook_secret(), *(o for o in objects if not _is_webhook(o))])


def finish_kueue() -> None:
    """The webhooks, once Kueue runs; returns when the API gets answers from them."""
    apply([_trusted(o) for o in _kueue_objects() if _is_webhook(o)])
    await_webhooks()


def await_webhooks(timeout_s: float = 60) -> None:
    """Return when the API can ask Kueue: a ready pod is some moments ahead of the packet filter that leads to it."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            kubectl("create", "job", "asks-kueue", "--image=none", "--dry-run=server", "--namespace=default")
            return
        except InputError:
            if time.monotonic() > deadline:
                raise
        time.sleep(0.2)


def namespace(name: str) -> Object:
    """A namespace."""
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def container(deployment: Object) -> dict[str, Any]:
    """The only container of a deployment's pods."""
    return deployment["spec"]["template"]["spec"]["containers"][0]


def _kueue_objects() -> list[Object]:
    """Kueue's manifests with our image, our settings and certificates of our own authority.

    Its API that shows pending workloads is left out: were it away, no namespace could be deleted.
    """
    objects = kustomized(versions.KUEUE, KUEUE_NAMESPACE)
    objects = [o for o in objects if o["kind"] not in ("Secret", "APIService")]
    deployment = _one(objects, "Deployment", KUEUE_DEPLOYMENT)
    _fit(deployment, images.KUEUE)
    _show_certificate(deployment)
    container(deployment)["args"].append("--feature-gates=VisibilityOnDemand=false")
    config = _one(objects, "ConfigMap", "kueue-manager-config")
    config["data"] = {"controller_manager_config.yaml": json.dumps(KUEUE_CONFIG)}
    return [_converted(o) for o in objects]


def _fit(deployment: Object, image: str) -> None:
    """Make a deployment fit a small machine: our image, no share of the processor set aside, looked at every second."""
    only = container(deployment)
    only.update(image=image, imagePullPolicy="Never", resources={"requests": {"cpu": "10m", "memory": "64Mi"}})
    only["readinessProbe"].update(initialDelaySeconds=0, periodSeconds=1, timeoutSeconds=5, failureThreshold=30)
    only["livenessProbe"].update(initialDelaySeconds=30, periodSeconds=20, timeoutSeconds=15, failureThreshold=6)


def _show_certificate(deployment: Object) -> None:
    """Without certificate management of its own, Kueue reads the certificate of its metrics from a folder too."""
    volume = {"name": "metrics-certs", "secret": {"secretName": WEBHOOK_SECRET}}
    deployment["spec"]["template"]["spec"]["volumes"].append(volume)
    mount = {"name": "metrics-certs", "mountPath": "/etc/kueue/metrics/certs", "readOnly": True}
    container(deployment)["volumeMounts"].append(mount)


def _one(objects: list[Object], kind: str, name: str) -> Object:
    return next(o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name)


def _is_webhook(candidate: Object) -> bool:
    return candidate["kind"] in ("MutatingWebhookConfiguration", "ValidatingWebhookConfiguration")


def _trusted(configuration: Object) -> Object:
    """Only the webhooks of kinds that Kueue manages here, with the authority that signed its certificate."""
    kept = []
    for webhook in configuration["webhooks"]:
        if any(path in webhook["clientConfig"]["service"]["path"] for path in _KUEUE_PATHS):
            webhook["clientConfig"]["caBundle"] = encoded(certificate("ca"))
            kept.append(webhook)
    return {**configuration, "webhooks": kept}


def _converted(definition: Object) -> Object:
    """A custom resource whose versions Kueue converts, with the authority that signed its certificate."""
    webhook = definition.get("spec", {}).get("conversion", {}).get("webhook") if _is_definition(definition) else None
    if webhook:
        webhook["clientConfig"]["caBundle"] = encoded(certificate("ca"))
    return definition


def _is_definition(candidate: Object) -> bool:
    return candidate["kind"] == "CustomResourceDefinition"


def _webhook_secret() -> Object:
    """The certificate that Kueue's webhooks show."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": WEBHOOK_SECRET, "namespace": KUEUE_NAMESPACE},
        "data": {
            "ca.crt": encoded(certificate("ca")),
            "tls.crt": encoded(certificate("webhook")),
            "tls.key": encoded(key("webhook")),
        },
    }
