"""Repositories of the Hugging Face hub: the commit that a revision is now, so that later reads see the same files."""

from __future__ import annotations

from typing import Any

SCHEME = "hf"


def is_hub(fs: Any) -> bool:
    """Whether a file system of fsspec is the hub."""
    return SCHEME in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


def pinned(fs: Any, path: str) -> str:
    """A path with the commit in the place of its revision (`main` where it names none).

    Raises:
        OSError: there is no such repository or revision, or it may not be read.
    """
    from huggingface_hub import HfApi

    found = fs.resolve_path(path)
    if not hasattr(found, "revision"):  # a bucket, which has no commits
        return path
    about = HfApi(endpoint=fs.endpoint, token=fs.token).repo_info(
        found.repo_id, repo_type=found.repo_type, revision=found.revision
    )
    root = f"{found.root.partition('@')[0]}@{about.sha}"
    return f"{root}/{found.path}" if found.path else root


def content(info: dict[str, Any]) -> str | None:
    """What the hub says of a file's content: the SHA-256 of a large one, git's own hash of a small one."""
    large = info.get("lfs")
    sha256 = large.get("sha256") if isinstance(large, dict) else getattr(large, "sha256", None)
    told = sha256 or info.get("blob_id")
    return told if isinstance(told, str) else None
