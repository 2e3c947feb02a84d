"""Listing: which files a URL stands for."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import socket
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from runner.data import manifest
from runner.data.files import etags
from runner.data.files import local as local_files
from runner.data.files.compression import file_name
from runner.data.files.etags import content_etag
from runner.data.files.listing import infer_format, list_files, partitions_of
from runner.data.files.opening import open_input
from runner.errors import DataError, InputError
from tests.unit.data.kit import RemoteFileSystem, register_remote


def fill(folder: Path, *paths: str) -> str:
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    return str(folder)


def listed(url: str, **arguments: Any) -> list[str]:
    return [file.path for file in list_files(url, **arguments)]


@pytest.fixture
def remote(monkeypatch: pytest.MonkeyPatch) -> type[RemoteFileSystem]:
    return register_remote(monkeypatch)


def test_file(tmp_path: Path) -> None:
    """A single file is listed under its name, even a hidden one."""
    fill(tmp_path, "_x.csv")
    (one,) = list_files(str(tmp_path / "_x.csv"))
    assert (one.url, one.path, one.size) == (str(tmp_path / "_x.csv"), "_x.csv", 6)


def test_folder(tmp_path: Path) -> None:
    """A folder is listed with all folders below, sorted by relative path, hidden and underscored names left out."""
    url = fill(
        tmp_path,
        "b.csv",
        "a/c.csv",
        "_SUCCESS",
        ".x.csv",
        "a/.crc/y.csv",
        "_tmp/z.csv",
        "a/_d.csv",
        "_k=1/e.csv",
    )
    assert listed(url) == ["_k=1/e.csv", "a/c.csv", "b.csv"]
    assert listed(url + "/") == listed(url)


def test_glob(tmp_path: Path) -> None:
    """A glob is listed relative to its last folder without a wildcard; folders that fit are listed whole."""
    url = fill(tmp_path, "y=1/a.csv", "y=1/a.txt", "y=2/b.csv", "z/c.csv")
    assert listed(f"{url}/*/*.csv") == ["y=1/a.csv", "y=2/b.csv", "z/c.csv"]
    assert listed(f"{url}/y=*") == ["y=1/a.csv", "y=1/a.txt", "y=2/b.csv"]


def test_glob_characters_in_a_name(tmp_path: Path) -> None:
    """A path that exists is itself, whatever characters it has."""
    url = fill(tmp_path / "run[1]", "a.csv")
    assert listed(url) == ["a.csv"]


def test_partitions() -> None:
    """Hive partitions are unquoted, Hive's name for null is null, and the file's own name is none."""
    path = "year=2024/city=S%C3%A3o%20Paulo/kind=__HIVE_DEFAULT_PARTITION__/a=b.csv"
    assert partitions_of(path) == {"year": "2024", "city": "São Paulo", "kind": None}


@pytest.mark.parametrize("path", ["k=%FF/a.csv", "%FFk=1/a.csv", "k=a%C3/a.csv"])
def test_a_partition_that_is_no_utf8_is_refused(path: str) -> None:
    """It would be read as the mark that stands for what cannot be read, and two values would be one."""
    with pytest.raises(DataError, match=re.escape(f"UTF-8 once it is unquoted ('{path.partition('/')[0]}')")):
        partitions_of(path)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("{}/none", "no such file"),
        ("{}/none/*.csv", "no files"),
        ("{}/empty", "no files"),
        ("{}/hidden", "only hidden"),
        ("{}/hidden/.a.csv/x", "no such file"),
        ("wrong://x", "Protocol not known"),
        ("zip://a::{}/z", "chained"),
    ],
)
def test_nothing_there(tmp_path: Path, url: str, words: str) -> None:
    """A URL without data is an error that names the URL and says why."""
    (tmp_path / "empty").mkdir()
    fill(tmp_path, "hidden/.a.csv", "hidden/_SUCCESS")
    url = url.format(tmp_path)
    with pytest.raises(DataError, match=words) as caught:
        list_files(url)
    assert url in str(caught.value)


def test_unknown_format(tmp_path: Path) -> None:
    """A misspelt format is an error with the near miss."""
    with pytest.raises(DataError, match="did you mean 'parquet'"):
        list_files(fill(tmp_path, "a.csv"), format="parqet")


def test_options_pass_through(remote: type[RemoteFileSystem]) -> None:
    """Storage options reach the file system untouched."""
    fsspec.filesystem("remote").pipe("/b/x.csv", b"a")
    list_files("remote://b", {"endpoint_url": "http://here", "anon": True})
    assert remote.seen_options == {"endpoint_url": "http://here", "anon": True}


def test_no_permission(remote: type[RemoteFileSystem]) -> None:
    """A refusal of the store names the URL and what to check."""
    remote.refuses = PermissionError
    with pytest.raises(DataError, match=r"remote://b/x\.csv: no permission.*\n.*\n.*credentials"):
        list_files("remote://b/x.csv")


def test_etag_is_the_content(tmp_path: Path) -> None:
    """Locally and in memory an etag is the MD5 of the content, and follows a change of it."""
    url, digest = fill(tmp_path, "a.csv"), hashlib.md5(b"a.csv").hexdigest()
    fsspec.filesystem("memory").pipe("/etag/a.csv", b"a.csv")
    assert [f.etag for f in list_files(url)] == [f.etag for f in list_files("memory://etag")] == [f"md5:{digest}"]
    (tmp_path / "a.csv").write_text("other")
    assert list_files(url)[0].etag == f"md5:{hashlib.md5(b'other').hexdigest()}"


@pytest.mark.parametrize(
    ("said", "etag"),
    [
        ({"ETag": '"0cc175b9c0f1b6a831c399e269772661"'}, "md5:0cc175b9c0f1b6a831c399e269772661"),
        ({"ETag": '"0cc175b9c0f1b6a831c399e269772661-3"'}, "etag:0cc175b9c0f1b6a831c399e269772661-3"),
        ({"etag": 'W/"v7"'}, "etag:v7"),
        ({"md5Hash": "DMF1ucDxtqgxw5niaXcmYQ=="}, "md5:0cc175b9c0f1b6a831c399e269772661"),
        (
            {"etag": '"0x8D1"', "content_settings": {"content_md5": bytearray(hashlib.md5(b"a").digest())}},
            "md5:0cc175b9c0f1b6a831c399e269772661",
        ),
        ({"etag": '"0x8D1"', "content_settings": {"content_md5": None}}, "etag:0x8D1"),
        ({}, "md5:0cc175b9c0f1b6a831c399e269772661"),
    ],
)
def test_etag_of_a_store(remote: type[RemoteFileSystem], said: dict[str, str], etag: str) -> None:
    """A store's own word for the content is taken (S3, GCS, Azure, HTTP); where it has none the file is read."""
    fs = remote()
    fs.pipe("/b/x", b"a")
    assert content_etag(fs, "/b/x", {"size": 1, **said}) == etag


def test_infer_format(tmp_path: Path) -> None:
    """The format follows from the endings, compressed or not."""
    assert infer_format(list_files(fill(tmp_path, "a.JSONL", "b.ndjson.gz", "c.jsonl.zst")), "u") == "jsonl"


@pytest.mark.parametrize(
    ("names", "todo"),
    [
        (["a.jpg", "b.png"], "format='files' has a row of each file"),
        (["a.manifest"], "give format='manifest'"),
        (["a.parquet", "b.csv"], "a glob that fits only the data files"),
    ],
)
def test_which_format_to_give(tmp_path: Path, names: list[str], todo: str) -> None:
    """Where no format follows from the names, the one that is never guessed is told where it fits."""
    files = list_files(fill(tmp_path, *names))
    with pytest.raises(DataError) as raised:
        infer_format(files, "lake")
    assert todo in (raised.value.todo or "")


@pytest.mark.parametrize("url", ["~/lake", "~/lake/*.csv", "~/lake/a.csv"])
def test_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    """`~` is the home folder, as a shell has it; what is not there is named as it was given."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "lake").mkdir()
    (tmp_path / "lake" / "a.csv").write_text("a\n1\n")
    assert [file.url for file in list_files(url)] == [f"{tmp_path}/lake/a.csv"]
    with pytest.raises(DataError, match="^~/none: no such file"):
        list_files("~/none")


def test_mixed_endings(tmp_path: Path) -> None:
    """Endings of several formats are an error that counts them."""
    files = list_files(fill(tmp_path, "a.csv", "b.csv", "c.parquet", "README"))
    with pytest.raises(DataError, match=r"1 x 'no ending', 2 x '\.csv', 1 x '\.parquet'"):
        infer_format(files, "u")


def test_large_files_are_hashed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A large file's hash is noted for other processes, unless it is brand-new; a change of the file voids the note."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(etags, "LARGE_BYTES", 3)
    url, right = fill(tmp_path / "d", "a.csv"), f"md5:{hashlib.md5(b'a.csv').hexdigest()}"

    def hashed_by_a_new_process() -> str:
        monkeypatch.setattr(etags, "_known", {})
        return list_files(url)[0].etag

    assert hashed_by_a_new_process() == right
    assert not (tmp_path / "cache").exists()
    os.utime(tmp_path / "d" / "a.csv", (1e9, 1e9))
    assert hashed_by_a_new_process() == right
    (note,) = (tmp_path / "cache" / "runner" / "etags").iterdir()
    note.write_text(note.read_text().replace(right[4:], "0" * 32))
    assert hashed_by_a_new_process() == f"md5:{'0' * 32}"
    os.utime(tmp_path / "d" / "a.csv", (1e9, 1e9 + 1))
    assert hashed_by_a_new_process() == right
    note.write_text("torn")
    assert hashed_by_a_new_process() == right


def test_links(tmp_path: Path) -> None:
    """Links to files and folders are followed, under the names that they have in the folder."""
    url = fill(tmp_path, "data/a/x.csv", "elsewhere/y.csv")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data" / "c.csv").symlink_to("a/x.csv")
    (tmp_path / "whole").symlink_to("data")
    for folder in ("data", "whole"):
        assert listed(f"{url}/{folder}") == ["a/x.csv", "b/y.csv", "c.csv"]
    assert listed(f"{url}/data/*") == ["a/x.csv", "b/y.csv", "c.csv"]


@pytest.mark.parametrize(
    ("target", "words"),
    [("nowhere", "leads to .*nowhere, which cannot be read"), (".", "leads back to"), ("b", "leads to")],
)
def test_bad_links(tmp_path: Path, target: str, words: str) -> None:
    """A link that leads nowhere, or in a circle, is an error that names it; a hidden one is not looked at."""
    url = fill(tmp_path, "a.csv")
    (tmp_path / "_b").symlink_to(target)
    assert listed(url) == ["a.csv"]
    (tmp_path / "_b").rename(tmp_path / "b")
    with pytest.raises(DataError, match=f"/b: a link that {words}"):
        list_files(url)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_links_of_others(tmp_path: Path) -> None:
    """A link of somebody else's may lead out of the folder only to a file of the same owner."""
    url = fill(tmp_path, "data/a.csv", "theirs.csv", "ours.csv")
    for name in ("theirs", "ours"):
        (tmp_path / "data" / f"{name}.csv").symlink_to(tmp_path / f"{name}.csv")
        os.chown(tmp_path / "data" / f"{name}.csv", 4711, 4711, follow_symlinks=False)
    os.chown(tmp_path / "theirs.csv", 4711, 4711)
    with pytest.raises(DataError, match="/ours.csv: a link that leads out of the folder"):
        list_files(f"{url}/data")
    (tmp_path / "data" / "ours.csv").unlink()
    assert listed(f"{url}/data") == ["a.csv", "theirs.csv"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_links_that_come_later(tmp_path: Path) -> None:
    """A link by which somebody else would have another file read is refused when the file is opened, also one that is
    put in the place of a file, or of a folder, after the files were listed."""
    url = fill(tmp_path, "data/a/x.csv", "secret/x.csv")
    (file,) = list_files(f"{url}/data")
    os.rename(tmp_path / "data/a", tmp_path / "aside")
    (tmp_path / "data/a").symlink_to(tmp_path / "secret")
    os.truncate(tmp_path / "secret/x.csv", file.size)
    with open_input(file.url, file.size, path=file.path) as source:
        assert len(source.read()) == file.size  # this user's own link
    os.chown(tmp_path / "data/a", 4711, 4711, follow_symlinks=False)
    with pytest.raises(DataError, match="data/a: a link that leads out of the folder"):
        open_input(file.url, file.size, path=file.path)
    (tmp_path / "data/a").unlink()
    os.rename(tmp_path / "aside", tmp_path / "data/a")
    (tmp_path / "data/a/x.csv").unlink()
    (tmp_path / "data/a/x.csv").symlink_to("../../secret/x.csv")
    os.chown(tmp_path / "data/a/x.csv", 4711, 4711, follow_symlinks=False)
    for mapped in (True, False):
        with pytest.raises(DataError, match="leads out of the folder"):
            open_input(file.url, file.size, path=file.path, mapped=mapped)
    (tmp_path / "data/a/x.csv").unlink()
    (tmp_path / "data/a/x.csv").symlink_to("../y.csv")
    os.chown(tmp_path / "data/a/x.csv", 4711, 4711, follow_symlinks=False)
    fill(tmp_path, "data/y.csv")
    assert open_input(file.url, 10, path=file.path).read() == b"data/y.csv"


def test_a_file_that_is_another_one_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is checked is the file that is open, not the one that has its name a moment later."""
    fill(tmp_path, "data/a.csv", "secret.csv")
    (tmp_path / "data/a.csv").unlink()
    (tmp_path / "data/a.csv").symlink_to("../secret.csv")

    def swapped(path: str) -> str:
        (tmp_path / "data/a.csv").unlink()
        (tmp_path / "data/a.csv").write_text("secret.csv")
        return os.path.abspath(path)

    monkeypatch.setattr(local_files.os.path, "realpath", swapped)
    with pytest.raises(DataError, match="leads to another file than a moment ago"):
        open_input(str(tmp_path / "data/a.csv"), 10, path="a.csv")


def test_pipes_and_sockets(tmp_path: Path) -> None:
    """What is no file is left out of a folder and refused by its own name; nothing waits for it."""
    url = fill(tmp_path, "a.csv")
    os.mkfifo(tmp_path / "b.csv")
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(tmp_path / "c.csv"))
        assert listed(url) == listed(f"{url}/*.csv") == ["a.csv"]
    with pytest.raises(DataError, match="a named pipe"):
        list_files(f"{url}/b.csv")
    with pytest.raises(DataError, match="a device"):
        list_files("/dev/zero")
    (tmp_path / "a.csv").unlink()
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(DataError, match="a named pipe"):
        open_input(f"{url}/a.csv", 0)


def test_a_secret_that_is_not_there(remote: type[RemoteFileSystem], monkeypatch: pytest.MonkeyPatch) -> None:
    """Storage options that name a variable which is not set are refused as that, not as a store that is away."""
    monkeypatch.delenv("LAKE_SECRET", raising=False)
    with pytest.raises(InputError, match=r"^storage option 'secret' .* no variable LAKE_SECRET"):
        listed("remote://bucket/a.parquet", options={"secret": "env:LAKE_SECRET"})


def test_several_urls(tmp_path: Path) -> None:
    """Several URLs are one dataset, below the folder that they have in common; a file can be in it once."""
    url = fill(tmp_path, "d/k=1/a.csv", "d/k=2/b.csv", "d/c.csv")
    found = list_files([f"{url}/d/k=2/b.csv", f"{url}/d/k=1"])
    assert [(file.path, dict(file.partitions)) for file in found] == [
        ("k=1/a.csv", {"k": "1"}),
        ("k=2/b.csv", {"k": "2"}),
    ]
    assert [file.path for file in list_files([tmp_path / "d" / "c.csv"])] == ["c.csv"]
    with pytest.raises(DataError, match="c.csv: the same file twice"):
        list_files([f"{url}/d/c.csv", f"{url}/d"])


def test_odd_names(tmp_path: Path) -> None:
    """Braces stand for each of their words, and '::' may be in a name."""
    url = fill(tmp_path, "a.csv", "b.csv", "c::d.csv", "{x}.csv")
    assert listed(f"{url}/{{a,b}}.csv") == ["a.csv", "b.csv"]
    assert listed(f"{url}/{{x}}.csv") == ["{x}.csv"]
    assert open_input(list_files(f"{url}/c::d.csv")[0].url, 8).read() == b"c::d.csv"


class Hosted(LocalFileSystem):
    """Files of a host whose paths do not name it, as those of HDFS and SFTP."""

    protocol = "hosted"

    def __init__(self, host: str, **options: Any) -> None:
        super().__init__(**options)
        self.host = host

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return f"/{path.partition('://')[2].partition('/')[2]}" if "://" in path else path.rstrip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, str]:
        return {"host": path.partition("://")[2].partition("/")[0]} if "://" in path else {}


def test_files_of_a_host_are_opened_there(tmp_path: Path) -> None:
    """The URL of each names the host of the folder's, also where paths of the file system do not."""
    fsspec.register_implementation("hosted", Hosted, clobber=True)
    fill(tmp_path, "a.csv", "b/c.csv")
    files = list_files(f"hosted://name:8020{tmp_path}")
    assert [file.url for file in files] == [f"hosted://name:8020{tmp_path}/{name}" for name in ("a.csv", "b/c.csv")]
    assert open_input(files[0].url, files[0].size).read() == b"a.csv"


def test_a_question_mark_in_a_name_hides_no_ending(tmp_path: Path) -> None:
    """Of a file on a disk it is part of the name, for its format and its compression."""
    (tmp_path / "why?.jsonl").write_text('{"id": 1}\n')
    (tmp_path / "what? now.jsonl.gz").write_bytes(gzip.compress(b'{"id": 2}\n'))
    found = manifest.build(str(tmp_path), count=True)
    assert (found.rows, {shard.format for shard in found.shards}) == (2, {"jsonl"})
    assert file_name("/a/b.jsonl.gz?signature=x.y") == "b.jsonl.gz"
