"""Container images, written as archives without any tool, and handed to containerd.

No image comes from a registry: each has one static program, or an almost empty root into which pods mount the
machine's own folders.
"""

from __future__ import annotations

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from runner.errors import InputError
from runner.onebox import build, versions
from runner.onebox.packages import program
from runner.onebox.places import ROOT, SOCKET

PAUSE = "localhost/pause:1"
HOST = "localhost/runner-host:1"
KUBERAY = f"localhost/kuberay-operator:{versions.KUBERAY.version}"
KUEUE = f"localhost/kueue:{versions.KUEUE.version}"
NOBODY = "65532:65532"
FOLDER = ROOT / "images"
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Image:
    """An image: its name, its only layer, and what runs in it."""

    name: str
    layer: bytes
    entrypoint: tuple[str, ...] = ()
    user: str = "0:0"


class Layer:
    """A layer in the making; the same content always gives the same bytes."""

    def __init__(self) -> None:
        self._bytes = io.BytesIO()
        self._tar = tarfile.open(fileobj=self._bytes, mode="w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def folder(self, path: str, mode: int = 0o755) -> Layer:
        """An empty folder."""
        return self._add(path, tarfile.DIRTYPE, mode)

    def link(self, path: str, target: str) -> Layer:
        """A symbolic link."""
        return self._add(path, tarfile.SYMTYPE, 0o777, target=target)

    def file(self, path: str, content: bytes, mode: int = 0o644) -> Layer:
        """A file."""
        return self._add(path, tarfile.REGTYPE, mode, content)

    def done(self) -> bytes:
        """The layer as an archive."""
        self._tar.close()
        return self._bytes.getvalue()

    def _add(self, path: str, kind: bytes, mode: int, content: bytes = b"", target: str = "") -> Layer:
        entry = tarfile.TarInfo(path.strip("/"))
        entry.type, entry.mode, entry.size, entry.linkname = kind, mode, len(content), target
        self._tar.addfile(entry, io.BytesIO(content))
        return self


def pause() -> Image:
    """What keeps a pod's namespaces alive."""
    program_bytes = build.build(versions.PAUSE).read_bytes()
    return Image(PAUSE, Layer().file("pause", program_bytes, 0o755).done(), ("/pause",))


def kuberay() -> Image:
    """The KubeRay operator."""
    return _manager(KUBERAY, versions.KUBERAY)


def kueue() -> Image:
    """Kueue."""
    return _manager(KUEUE, versions.KUEUE)


def _manager(name: str, part: versions.Part) -> Image:
    """A static program alone, run by nobody in particular."""
    layer = Layer().folder("tmp", 0o1777).file("manager", build.build(part).read_bytes(), 0o755)
    return Image(name, layer.done(), ("/manager",), NOBODY)


def host() -> Image:
    """An almost empty root: pods mount the machine's /usr, a Python and its environment into it."""
    layer = Layer()
    for name in ("usr", "root", "home", "proc", "sys", "dev", "run", "etc", "var", "var/lib", "var/lib/lake-runner"):
        layer.folder(name)
    layer.folder("tmp", 0o1777).folder("var/tmp", 0o1777)
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        if Path("/", name).is_symlink():
            layer.link(name, str(Path("/", name).readlink()))
    layer.file(
        "etc/passwd", b"root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n"
    )
    layer.file("etc/group", b"root:x:0:\nnogroup:x:65534:\n")
    layer.file("etc/nsswitch.conf", b"passwd: files\ngroup: files\nhosts: files dns\n")
    _copy_from_machine(layer)
    return Image(HOST, layer.done())


def _copy_from_machine(layer: Layer) -> None:
    """The few files of /etc without which programs of /usr do not find their libraries, names and certificates."""
    for name in ("etc/ld.so.cache", "etc/ld.so.conf", "etc/services", "etc/ssl/certs/ca-certificates.crt"):
        if Path("/", name).is_file():
            layer.file(name, Path("/", name).read_bytes())
    alternatives = Path("/etc/alternatives")
    if alternatives.is_dir():
        for link in sorted(alternatives.iterdir()):
            if link.is_symlink():
                layer.link(str(link), str(link.readlink()))


def ensure(image: Image) -> bool:
    """Hand an image to containerd unless it has this very one; whether it was handed over."""
    digest = hashlib.sha256(image.layer).hexdigest()
    FOLDER.mkdir(parents=True, exist_ok=True)
    record = FOLDER / f"{image.name.replace('/', '_').replace(':', '_')}.sha256"
    known = record.exists() and record.read_text() == digest
    if known and image.name in ctr("images", "list", "--quiet").split():
        return False
    archive = record.with_suffix(".tar")
    write_archive(image, archive)
    ctr("images", "import", str(archive))
    archive.unlink()
    record.write_text(digest)
    return True


def write_archive(image: Image, path: Path) -> None:
    """The image in the form of `docker save`."""
    config = json.dumps(
        {
            "architecture": _MACHINES.get(platform.machine(), platform.machine()),
            "os": "linux",
            "created": "1970-01-01T00:00:00Z",
            "config": {"Env": [_PATH], "Entrypoint": list(image.entrypoint), "User": image.user, "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(image.layer).hexdigest()}"]},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": "runner.onebox"}],
        }
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [image.name], "Layers": ["layer.tar"]}]).encode()
    archive = Layer().file(name, config).file("layer.tar", image.layer).file("manifest.json", manifest)
    path.write_bytes(archive.done())


def ctr(*arguments: str) -> str:
    """Ask our containerd."""
    command = [program("ctr"), "--address", str(SOCKET), "--namespace", "k8s.io", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise InputError(f"`ctr {' '.join(arguments)}` failed: {done.stderr.strip()[-800:]}")
    return done.stdout


def containerd_answers() -> bool:
    """Whether our containerd takes questions."""
    command = [program("ctr"), "--address", str(SOCKET), "--timeout", "2s", "version"]
    return SOCKET.exists() and subprocess.run(command, capture_output=True, check=False).returncode == 0
