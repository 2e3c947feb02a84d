"""What runner is built from is what was reviewed: hashes, digests, and one index for what it names."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from runner.code import packages
from runner.errors import InputError
from runner.onebox import build, versions
from tests import ROOT


def test_every_pin_has_hashes() -> None:
    """Each package of the constraints is at one version and carries the hashes of its files."""
    text = re.sub(r" \\\n\s+", " ", (ROOT / "constraints.txt").read_text())
    entries = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(entries) > 100
    whole = re.compile(r"[a-z0-9.-]+==\S+( ; [^-]+)?( --hash=sha256:[0-9a-f]{64})+")
    assert [entry for entry in entries if not whole.fullmatch(entry)] == []


def test_the_image_is_built_from_a_digest() -> None:
    """The base of the image is named by its content, and no other index is asked for every package."""
    text = (ROOT / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=\S+@sha256:[0-9a-f]{64}$", text, re.MULTILINE)
    assert "EXTRA_INDEX" not in text.upper().replace("-", "_")


def test_programs_are_compiled_from_known_modules() -> None:
    """Each program's own module is in the list of hashes, and one that needs a module beside the list is refused."""
    known = build.SUMS.read_text()
    for part in (*versions.EVERYTHING, *versions.FOR_TESTS):
        assert not part.module or f"{part.module} {part.version} h1:" in known
    build.refuse_unknown(versions.ETCD, "\n".join(known.splitlines()[:5]))
    with pytest.raises(InputError, match=r"(?s)1 modules .*evil/module.*make lock-onebox"):
        build.refuse_unknown(versions.ETCD, known + "evil/module v1.0.0 h1:AAAA=\n")


@pytest.fixture
def brought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Packages that were installed for a run, for the next one to find."""
    made: list[Path] = []

    def install(words: str, *arguments: str, stdin: str) -> subprocess.CompletedProcess[str]:
        target = Path(next(a for a in arguments if a.startswith("--target=")).removeprefix("--target="))
        (target / "mine.py").write_text("value = 1\n")
        made.append(target)
        return subprocess.CompletedProcess([], 0, "", "")

    monkeypatch.setattr(packages, "_uv", install)
    monkeypatch.setattr(packages, "_root", lambda: tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("PYTHONPATH", "")
    folder = packages.provide("runner-brings==1.0 \\\n    --hash=sha256:aa\n")
    assert folder is not None
    assert packages.is_whole(folder)
    return folder


@pytest.mark.parametrize("change", ["edited", "added", "removed", "a link"])
def test_packages_are_used_again_as_they_were_installed(brought: Path, change: str) -> None:
    """A file that was changed, added or taken away since, or a link in the folder's place: they are installed anew."""
    (brought / "__pycache__").mkdir()
    (brought / "__pycache__" / "mine.pyc").write_bytes(b"")
    assert packages.is_whole(brought)
    if change == "edited":
        (brought / "mine.py").write_text("value = 2\n")
    elif change == "added":
        (brought / "sitecustomize.py").write_text("")
    elif change == "removed":
        (brought / "mine.py").unlink()
    else:
        moved = brought.rename(brought.with_name("moved"))
        brought.symlink_to(moved)
    assert not packages.is_whole(brought)
    assert packages.provide("runner-brings==1.0 \\\n    --hash=sha256:aa\n") == brought
    assert packages.is_whole(brought)
    assert (brought / "mine.py").read_text() == "value = 1\n"
    assert not (brought / "sitecustomize.py").exists()


def test_code_of_another_user_is_not_booted(tmp_path: Path) -> None:
    """A folder in the place of a run's code that is a link, or another user's, ends the boot before any of it runs."""
    evil = tmp_path / "evil" / "runner"
    evil.mkdir(parents=True)
    (evil / "__init__.py").write_text("")
    (evil / "supervisor.py").write_text("print('ran')")
    (tmp_path / "code").symlink_to(evil.parent)
    argument = f'{{"folder": "{tmp_path}/code", "module": "runner.control.supervisor", "code": "", "options": {{}}}}'
    boot = ROOT / "runner" / "backends" / "boot.py"
    environment = {**os.environ, "RUNNER_ARGUMENT": argument}
    words = [sys.executable, "-I", str(boot)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "another user" in done.stderr
    assert "ran" not in done.stdout
