"""Speaks to the cluster's API through its own kubectl."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from runner.errors import InputError
from runner.onebox import build, versions
from runner.onebox.places import KUBECONFIG, ROOT
from runner.onebox.versions import Part

Object = dict[str, Any]


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """The output of one kubectl command; raise what it says if it fails."""
    command = [str(build.program(versions.KUBECTL)), *arguments]
    environment = {"PATH": os.defpath, "HOME": str(ROOT), "KUBECONFIG": str(KUBECONFIG)}
    done = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(
            f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()[-800:]}",
            todo="`python -m runner.onebox status` says what runs",
        )
    return done.stdout


def apply(objects: list[Object]) -> None:
    """Make objects be as given, whatever they are now."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubectl("apply", "--server-side", "--force-conflicts", "--validate=false", "--filename", "-", stdin=text)


def get(*what: str) -> Object:
    """One object, or a list of them, as the API gives it."""
    return json.loads(kubectl("get", *what, "--output", "json"))


def kustomized(part: Part, namespace: str) -> list[Object]:
    """The objects of a program's manifests as they are for a namespace; worked out once per version."""
    known = build.folder(part) / f"manifests-{namespace}.json"
    if not known.exists():
        unfinished = known.with_suffix(".new")
        unfinished.write_text(json.dumps(_kustomize(build.folder(part), namespace)))
        unfinished.rename(known)
    return json.loads(known.read_text())


def _kustomize(folder: Path, namespace: str) -> list[Object]:
    """Put a program's manifests together, which takes seconds."""
    import yaml  # type: ignore[import-untyped, unused-ignore]

    with tempfile.TemporaryDirectory(dir=folder, prefix=".kustomize-") as work:
        content = json.dumps({"namespace": namespace, "resources": ["../config/default"]})
        Path(work, "kustomization.yaml").write_text(content)
        documents = yaml.load_all(kubectl("kustomize", work), yaml.CSafeLoader)
        return [document for document in documents if document]


def await_rollout(namespace: str, deployment: str, timeout_s: int = 180) -> None:
    """Return once a deployment's pods are ready."""
    kubectl("--namespace", namespace, "rollout", "status", f"deployment/{deployment}", f"--timeout={timeout_s}s")
