"""Keys and certificates of the cluster, made once; and the kubeconfigs that hold them."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from runner.onebox.places import API, FIRST_SERVICE, GATEWAY, KUBECONFIG, NODE, PKI, kubeconfig

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.x509 import Certificate, GeneralName, KeyUsage

DAYS = 3650
API_NAMES = (
    "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "localhost",
    "127.0.0.1", FIRST_SERVICE, GATEWAY,
)  # fmt: skip
WEBHOOK_NAMES = ("kueue-webhook-service.kueue-system.svc", "kueue-webhook-service.kueue-system.svc.cluster.local")


@dataclass(frozen=True)
class Leaf:
    """One certificate: whom it names, which group they are in, and the addresses a server may have."""

    file: str
    name: str
    group: str = ""
    addresses: tuple[str, ...] = ()
    signer: str = "ca"


LEAVES = (
    Leaf("apiserver", "kube-apiserver", addresses=API_NAMES),
    Leaf("etcd", "etcd", addresses=("127.0.0.1", "localhost")),
    Leaf("kubelet-server", f"system:node:{NODE}", "system:nodes", (NODE, GATEWAY)),
    Leaf("kubelet-client", "kube-apiserver-kubelet-client", "system:masters"),
    Leaf("front-proxy", "front-proxy-client", signer="front-proxy-ca"),
    Leaf("webhook", "kueue-webhook", addresses=WEBHOOK_NAMES),
    Leaf("admin", "admin", "system:masters"),
    Leaf("controller-manager", "system:kube-controller-manager"),
    Leaf("scheduler", "system:kube-scheduler"),
    Leaf("proxy", "system:kube-proxy"),
    Leaf("coredns", "coredns", "system:masters"),
    Leaf("policies", "kube-network-policies", "system:masters"),
    Leaf("kubelet", f"system:node:{NODE}", "system:nodes"),
)
USERS = ("controller-manager", "scheduler", "proxy", "coredns", "policies", "kubelet")


def certificate(name: str) -> Path:
    """The file of a certificate."""
    return PKI / f"{name}.crt"


def key(name: str) -> Path:
    """The file of a private key."""
    return PKI / f"{name}.key"


def ensure() -> None:
    """Make all that is not there yet."""
    PKI.mkdir(parents=True, exist_ok=True)
    PKI.chmod(0o700)
    for name in ("ca", "front-proxy-ca"):
        if not certificate(name).exists():
            _make_authority(name)
    if not key("service-account").exists():
        _write_key("service-account", _new_key())
    for leaf in LEAVES:
        if not certificate(leaf.file).exists():
            _make_leaf(leaf)
    _write_kubeconfig(KUBECONFIG, "admin")
    for user in USERS:
        _write_kubeconfig(kubeconfig(user), user)


def _new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _write_key(name: str, made: EllipticCurvePrivateKey) -> None:
    """The private key for its owner's eyes only, and the public one beside it."""
    from cryptography.hazmat.primitives import serialization as s

    private = made.private_bytes(s.Encoding.PEM, s.PrivateFormat.PKCS8, s.NoEncryption())
    key(name).touch(mode=0o600)
    key(name).write_bytes(private)
    public = made.public_key().public_bytes(s.Encoding.PEM, s.PublicFormat.SubjectPublicKeyInfo)
    (PKI / f"{name}.pub").write_bytes(public)


def _make_authority(name: str) -> None:
    made = _new_key()
    _write_key(name, made)
    _write_certificate(name, _sign(Leaf(name, f"lake-runner-{name}"), made, made, authority=None))


def _make_leaf(leaf: Leaf) -> None:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    signer = load_pem_private_key(key(leaf.signer).read_bytes(), None)
    assert isinstance(signer, EllipticCurvePrivateKey)
    authority = x509.load_pem_x509_certificate(certificate(leaf.signer).read_bytes())
    made = _new_key()
    _write_key(leaf.file, made)
    _write_certificate(leaf.file, _sign(leaf, made, signer, authority=authority))


def _sign(
    leaf: Leaf, own: EllipticCurvePrivateKey, signer: EllipticCurvePrivateKey, *, authority: Certificate | None
) -> Certificate:
    """A certificate for both ends of a connection; an authority signs itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
    from cryptography.x509.oid import NameOID

    names = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.name)]
    if leaf.group:
        names.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.group))
    subject = x509.Name(names)
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder(subject_name=subject, issuer_name=authority.subject if authority else subject)
        .public_key(own.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=DAYS))
        .add_extension(x509.BasicConstraints(ca=authority is None, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if authority is None:
        builder = builder.add_extension(_authority_usage(), critical=True)
    else:
        builder = builder.add_extension(x509.ExtendedKeyUsage([Usage.SERVER_AUTH, Usage.CLIENT_AUTH]), critical=False)
    if leaf.addresses:
        builder = builder.add_extension(x509.SubjectAlternativeName(_general(leaf.addresses)), critical=False)
    return builder.sign(signer, hashes.SHA256())


def _authority_usage() -> KeyUsage:
    """What an authority's key is for; strict verifiers ask for it."""
    from cryptography.x509 import KeyUsage

    return KeyUsage(
        digital_signature=True,
        key_cert_sign=True,
        crl_sign=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general(addresses: tuple[str, ...]) -> list[GeneralName]:
    """Names and IP addresses in the form that certificates have them."""
    from cryptography import x509

    made: list[GeneralName] = []
    for address in addresses:
        try:
            made.append(x509.IPAddress(ipaddress.ip_address(address)))
        except ValueError:
            made.append(x509.DNSName(address))
    return made


def _write_certificate(name: str, made: Certificate) -> None:
    from cryptography.hazmat.primitives import serialization as s

    unfinished = PKI / f"{name}.crt.new"
    unfinished.write_bytes(made.public_bytes(s.Encoding.PEM))
    unfinished.rename(certificate(name))


def encoded(path: Path) -> str:
    """A file in base64, as Kubernetes wants it inside YAML and JSON."""
    return base64.b64encode(path.read_bytes()).decode()


def _write_kubeconfig(path: Path, user: str) -> None:
    """A kubeconfig that needs no other file (JSON is YAML)."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": NODE,
        "clusters": [
            {"name": NODE, "cluster": {"server": API, "certificate-authority-data": encoded(certificate("ca"))}}
        ],
        "users": [
            {
                "name": user,
                "user": {
                    "client-certificate-data": encoded(certificate(user)),
                    "client-key-data": encoded(key(user)),
                },
            }
        ],
        "contexts": [{"name": NODE, "context": {"cluster": NODE, "user": user, "namespace": "default"}}],
    }
    path.touch(mode=0o600)
    path.write_text(json.dumps(content, indent=2) + "\n")
