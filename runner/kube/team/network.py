"""Whom a team's pods hear, and whom they may call. It holds where the cluster's network plugin enforces it."""

from __future__ import annotations

from typing import Any

from runner.kube import names
from runner.kube.team.team import Destination, Tenant, of_team

_API = "networking.k8s.io/v1"
#: Where clouds tell a machine its secrets: link-local addresses, and those of Azure, Alibaba, AWS and Google besides.
METADATA = {
    "0.0.0.0/0": ["169.254.0.0/16", "168.63.129.16/32", "100.100.100.200/32"],
    "::/0": ["fe80::/10", "fd00:ec2::/32", "fd20:ce::254/128"],
}
#: Ray's dashboard, where the operator submits the driver and asks how it stands.
_DASHBOARD = 8265
_DNS = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
#: Where clusters have a resolver on each node, it has an address of these; the metadata's own answers are no names.
_RESOLVERS = {"cidr": "169.254.0.0/16", "except": ["169.254.169.254/32"]}


def policies(tenant: Tenant) -> list[dict[str, Any]]:
    """Nothing comes in, but for runs among themselves and the operator; what goes out is told by `egress`."""
    return [_deny(tenant), _allow(tenant), _out(tenant)]


def _policy(tenant: Tenant, name: str, kind: str, selector: dict[str, Any], **rules: Any) -> dict[str, Any]:
    spec = {"podSelector": selector, "policyTypes": [kind], **rules}
    return of_team(tenant.name, "NetworkPolicy", _API, name, spec=spec)


def _deny(tenant: Tenant) -> dict[str, Any]:
    return _policy(tenant, "runner-deny", "Ingress", {})


def _allow(tenant: Tenant) -> dict[str, Any]:
    """Pods of runs hear each other, and the KubeRay operator at Ray's dashboard."""
    runs = {"matchExpressions": [{"key": names.RUN, "operator": "Exists"}]}
    operator = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": tenant.operator}}}
    dashboard = [{"protocol": "TCP", "port": _DASHBOARD}]
    ingress = [{"from": [{"podSelector": runs}]}, {"from": [operator], "ports": dashboard}]
    return _policy(tenant, "runner-runs", "Ingress", runs, ingress=ingress)


def _out(tenant: Tenant) -> dict[str, Any]:
    """Names are asked for anywhere within the cluster, and of the resolver of a node."""
    egress: list[dict[str, Any]]
    if tenant.egress:
        egress = [{"to": [{"podSelector": {}}]}, {"to": [{"namespaceSelector": {}}], "ports": _DNS}]
        egress += [_to(each) for each in tenant.destinations]
    else:
        anywhere = [{"ipBlock": {"cidr": cidr, "except": list(without)}} for cidr, without in METADATA.items()]
        egress = [{"to": [*anywhere, {"namespaceSelector": {}}]}]  # some plugins take pods for no addresses
    egress.append({"to": [{"ipBlock": dict(_RESOLVERS)}], "ports": _DNS})
    if tenant.metadata:
        egress.append({"to": [{"ipBlock": {"cidr": cidr}} for parts in METADATA.values() for cidr in parts]})
    return _policy(tenant, "runner-egress", "Egress", {}, egress=egress)


def _to(destination: Destination) -> dict[str, Any]:
    rule: dict[str, Any] = {"to": [{"ipBlock": {"cidr": destination.network}}]}
    if destination.port is not None:
        rule["ports"] = [{"protocol": protocol, "port": destination.port} for protocol in ("UDP", "TCP")]
    return rule
