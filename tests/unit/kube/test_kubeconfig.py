"""Kubeconfigs that are read without the `kubernetes` package, and those that are left to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped, unused-ignore]

from runner.errors import InputError
from runner.kube import kubeconfig
from runner.kube.client import Kube


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


def write(folder: Path, user: dict[str, Any], **cluster: Any) -> str:
    """A kubeconfig with one context, and its path."""
    config = {
        "current-context": "one",
        "contexts": [{"name": "one", "context": {"cluster": "there", "user": "me"}}],
        "clusters": [{"name": "there", "cluster": {"server": "https://10.0.0.1:6443/", **cluster}}],
        "users": [{"name": "me", "user": user}],
    }
    file = folder / "kubeconfig"
    file.write_text(yaml.safe_dump(config))
    return str(file)


def test_a_token_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kubeconfig with a token is read here, and its token is in every request."""
    monkeypatch.setenv("KUBECONFIG", write(tmp_path, {"token": "secret"}))
    found = kubeconfig.connect(None)
    assert found is not None
    assert (found.host, found.headers) == ("https://10.0.0.1:6443", {"Authorization": "Bearer secret"})
    assert kubeconfig.connect("one") is not None


@pytest.mark.parametrize(
    ("user", "cluster", "context"),
    [
        ({"exec": {"command": "login"}}, {}, None),
        ({"token": "secret", "as": "another"}, {}, None),
        ({"token": "secret"}, {"insecure-skip-tls-verify": True}, None),
        ({"token": "secret"}, {"proxy-url": "http://proxy"}, None),
        ({"token": "secret"}, {"server": "http://10.0.0.1"}, None),
        ({}, {}, None),
        ({"token": "secret"}, {}, "two"),
    ],
)
def test_whatever_needs_more_is_left_to_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: dict[str, Any], cluster: dict[str, Any], context: str | None
) -> None:
    """A program to ask, a proxy, another identity, an unknown context: none of it is guessed at."""
    monkeypatch.setenv("KUBECONFIG", write(tmp_path, user, **cluster))
    assert kubeconfig.connect(context) is None


def test_a_proxy_of_the_environment_is_left_to_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless the API's address is among those that go around it."""
    monkeypatch.setenv("KUBECONFIG", write(tmp_path, {"token": "secret"}))
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "")
    assert kubeconfig.connect(None) is None
    monkeypatch.setenv("no_proxy", "10.0.0.1")
    assert kubeconfig.connect(None) is not None


def test_an_unknown_context_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package's own words are the error's."""
    monkeypatch.setenv("KUBECONFIG", write(tmp_path, {"token": "secret"}))
    with pytest.raises(InputError, match="two"):
        Kube("two")


def test_the_package_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a kubeconfig says all itself, a client is made without the package's import."""
    monkeypatch.setenv("KUBECONFIG", write(tmp_path, {"token": "secret"}))
    code = "import sys; from runner.kube.client import Kube; Kube(); sys.exit('kubernetes' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_broken_certificate_is_left_to_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is said of it here."""
    monkeypatch.setenv("KUBECONFIG", write(tmp_path, {"client-certificate": "none.pem", "client-key": "none.key"}))
    assert kubeconfig.connect(None) is None
    monkeypatch.setenv("KUBECONFIG", write(tmp_path, {"token": "t"}, **{"certificate-authority-data": "bm9uZQ=="}))
    assert kubeconfig.connect(None) is None
