"""The keys of the S3 server, made once, and what a shell must know to use the cluster."""

from __future__ import annotations

import json
import secrets

from runner.errors import InputError
from runner.onebox.kubectl import Object
from runner.onebox.places import BUCKET, CREDENTIALS, KUBECONFIG, S3_URL

SECRET = "lake-credentials"


def ensure() -> tuple[str, str]:
    """The access key and the secret key."""
    if not CREDENTIALS.exists():
        unfinished = CREDENTIALS.with_suffix(".new")
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps({"access": "lake", "secret": secrets.token_hex(20)}))
        unfinished.rename(CREDENTIALS)
    return read()


def read() -> tuple[str, str]:
    """The same, of a cluster that is there."""
    try:
        known = json.loads(CREDENTIALS.read_text())
    except FileNotFoundError:
        raise InputError("there is no one-machine cluster here", todo="python -m runner.onebox up") from None
    except PermissionError:
        raise InputError(f"{CREDENTIALS} may be read by root alone", todo="run this as root") from None
    return known["access"], known["secret"]


def environment() -> dict[str, str]:
    """The variables that make clients use this cluster."""
    access, secret = read()
    return {
        "KUBECONFIG": str(KUBECONFIG),
        "AWS_ACCESS_KEY_ID": access,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_ENDPOINT_URL": S3_URL,
        "RUNNER_STORE": f"s3://{BUCKET}/runs",
    }


def secret_object() -> Object:
    """The Secret from which pods take them."""
    data = {name: value for name, value in environment().items() if name.startswith("AWS_")}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": SECRET, "namespace": "default"},
        "stringData": data,
    }
