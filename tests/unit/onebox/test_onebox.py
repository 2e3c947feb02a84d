"""The one-machine cluster's pure parts, and what it says when it cannot be."""

from __future__ import annotations

import io
import json
import socket
import tarfile
import threading
from pathlib import Path

import pytest

from runner.errors import InputError
from runner.onebox import build, images, network, packages, processes, up, versions

SAVED = """*nat
:POSTROUTING ACCEPT [0:0]
:MINE - [0:0]
:KUBE-SERVICES - [0:0]
:CNI-0123 - [0:0]
-A POSTROUTING -m comment --comment "a name" -j KUBE-SERVICES
-A POSTROUTING -s 10.244.0.2/32 -j CNI-0123
-A POSTROUTING -j MINE
-A KUBE-SERVICES -j KUBE-SERVICES
COMMIT
""".splitlines()


def test_only_our_chains_are_removed() -> None:
    """What leads into a chain of Kubernetes or of its network goes before the chain; other rules and chains stay."""
    script = network.removal("nat", SAVED).splitlines()
    assert script == [
        "*nat",
        '-D POSTROUTING -m comment --comment "a name" -j KUBE-SERVICES',
        "-D POSTROUTING -s 10.244.0.2/32 -j CNI-0123",
        "-F KUBE-SERVICES",
        "-F CNI-0123",
        "-X KUBE-SERVICES",
        "-X CNI-0123",
        "COMMIT",
    ]


def test_policing_is_put_in_once_and_goes_with_our_chains() -> None:
    """Both ways of a pod's packets lead into a chain each, also when it is said again; `down` takes all of it away."""
    script = network.policing([]).splitlines()
    assert script[:3] == ["*mangle", ":KUBE-POLICIES-POSTROUTING - [0:0]", ":KUBE-POLICIES-INPUT - [0:0]"]
    leading = ["-I POSTROUTING -j KUBE-POLICIES-POSTROUTING", "-I INPUT -j KUBE-POLICIES-INPUT"]
    assert script[-3:] == [*leading, "COMMIT"]
    rules = [line for line in script if "NFQUEUE" in line]
    assert len(rules) == 3
    assert all("-m conntrack --ctstate NEW" in rule and "bypass" not in rule for rule in rules)
    saved = [*(line for line in script if line[0] in ":-"), *(f"-A{line[2:]}" for line in leading)]
    again = network.policing(saved).splitlines()
    assert not [line for line in again if line.startswith("-I")]
    removed = network.removal("mangle", [line for line in saved if not line.startswith("-I")]).splitlines()
    assert [line for line in removed if line.startswith("-D")] == [f"-D{line[2:]}" for line in leading]


def test_a_table_without_our_chains_is_left_alone() -> None:
    """Nothing is said to the packet filter about a table in which nothing is ours."""
    assert network.removal("filter", [":INPUT ACCEPT [0:0]", "-A INPUT -j ACCEPT"]) == ""


def test_an_archive_holds_the_image(tmp_path: Path) -> None:
    """The written archive names the image and holds its layer and the configuration that the manifest speaks of."""
    image = images.Image("localhost/a:1", images.Layer().folder("tmp", 0o1777).file("x", b"content").done(), ("/x",))
    images.write_archive(image, tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        content = {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]
    (manifest,) = json.loads(content["manifest.json"])
    assert manifest["RepoTags"] == ["localhost/a:1"]
    assert json.loads(content[manifest["Config"]])["config"]["Entrypoint"] == ["/x"]
    with tarfile.open(fileobj=io.BytesIO(content[manifest["Layers"][0]])) as layer:
        assert layer.getnames() == ["tmp", "x"]


def test_the_same_content_gives_the_same_image() -> None:
    """A layer depends on nothing but its content, so an unchanged image is not handed over again."""
    assert images.host().layer == images.host().layer


def test_without_go_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that is not compiled, on a machine without Go, is an error that names both."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"etcd v3.*no Go[\s\S]*install Go"):
        build.build(versions.ETCD)


def test_a_compiled_program_needs_no_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in the cache is used as it is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    build.folder(versions.ETCD).mkdir(parents=True)
    build.program(versions.ETCD).touch()
    assert build.build(versions.ETCD) == tmp_path / "lake-runner" / f"etcd-{versions.ETCD.version}" / "etcd"


def test_only_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another user is told to use sudo before anything is done."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(InputError, match=r"root[\s\S]*sudo"):
        up.check_machine()


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ONEBOX_INSTALL=no nothing is installed, and the whole command is said."""
    monkeypatch.setenv("ONEBOX_INSTALL", "no")
    monkeypatch.setattr(packages, "missing", lambda: ["conntrack", "runc"])
    monkeypatch.setattr("shutil.which", lambda name, path=None: f"/usr/bin/{name}")
    with pytest.raises(InputError, match="apt-get install --yes --no-install-recommends conntrack runc"):
        packages.ensure(print)


def test_a_port_of_a_program_that_was_just_killed() -> None:
    """The kernel may need a moment to give its port back; the program is started then."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        process = processes.Process("etcd", ("etcd",), ready=lambda: True, listens=(other.getsockname()[:2],))
        threading.Timer(0.3, other.close).start()
        up._check_free(process)


def test_a_taken_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program whose address another one listens on is not started."""
    monkeypatch.setattr(up, "FREE_S", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = other.getsockname()[:2]
        process = processes.Process("etcd", ("etcd",), ready=lambda: True, listens=(address,))
        with pytest.raises(InputError, match=f"etcd cannot listen on 127.0.0.1:{address[1]}"):
            up._check_free(process)
