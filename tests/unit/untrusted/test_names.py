"""Names that paths are built from, and what a store lets lie at a path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runner.client.run import Run
from runner.data.catalog import data_key, manifest_key
from runner.data.results import result_folder, task_folder
from runner.errors import InputError, StoreBroken, StoreRefused
from runner.record import Bundle
from runner.record.index import new_run_id
from runner.store import Store
from runner.untrusted import names
from runner.worker import processes

RUN = "r261123-181119k4-digits-x7"
#: What somebody may write in the place of any name.
HOSTILE = [
    "", ".", "..", "../x", "/x", "x/", "a//b", "a/../b", "a/./b", "\\x", "a\\b", "a\0b", "a\nb", "\x1b[2J", "a\u202eb",
    "a\x9bb", "a\u2028b", "*", "a?", "[a]", "\udc80", "datasets", "index", "~", "r261123-181119k4-digits-x7/..",
]  # fmt: skip
PLAIN = ("KEY", "PART", "FILE", "JOB", "STAGE", "DATASET", "WRITER", "ARTEFACT", "NAMESPACE")
KINDS = {name: kind for name, kind in vars(names).items() if isinstance(kind, names.Kind)}


@pytest.mark.parametrize("name", HOSTILE)
def test_no_kind_of_name_leads_out_of_its_folder(name: str) -> None:
    """Whatever is called like that is no run, stage, dataset, checkpoint, key or version, and no way in a store."""
    plain = name in ("datasets", "index", "~")  # harmless, and not for every kind
    for what, kind in KINDS.items():
        if not (plain and what in PLAIN):
            assert not kind.fits(name), what


@pytest.mark.parametrize("name", [*HOSTILE, None, 3, b"x", RUN.upper(), f"{RUN} ", "r261399-000000-a-22", "r1"])
def test_a_run_is_not_opened_by_what_is_no_id(store: Store, name: str) -> None:
    """Neither its bundle, nor its handle, nor its temporary folder, whoever asks."""
    for use in (lambda: Bundle(store, name), lambda: Run(store, name), lambda: processes.scratch_path(name)):
        with pytest.raises(InputError):
            use()


@pytest.mark.parametrize("job", ["a", "a_Job-with_a-very-long-name", "digits"])
def test_what_is_made_is_a_run_id(job: str) -> None:
    """And so is what an older runner made."""
    assert names.RUN_ID.fits(new_run_id(job))
    assert names.RUN_ID.fits("r261123-193450-example-sxy")


@pytest.mark.parametrize("name", [name for name in HOSTILE if name not in ("datasets", "index", "~")])
def test_a_store_has_no_such_paths(store: Store, tmp_path: Path, name: str) -> None:
    """Nothing is read, written, listed or removed there, by whatever way it came."""
    (tmp_path / "x").write_text("mine")
    uses = [store.get, store.delete, store.delete_tree, store.list, store.find, store.exists, store.sub]
    for use in uses if name else [store.sub]:
        with pytest.raises(InputError):
            use(name)
    for write in (store.put, store.create):
        with pytest.raises((InputError, StoreBroken, StoreRefused)):
            write(name, b"")
    assert sorted(os.listdir(tmp_path)) == ["x"]
    assert (tmp_path / "x").read_text() == "mine"


@pytest.mark.parametrize("name", HOSTILE)
def test_paths_in_a_bundle_and_a_catalogue_are_of_names(store: Store, name: str) -> None:
    """Stages, attempts, steps, processes, artefacts, datasets, folders, versions and keys are parsed."""
    bundle = Bundle(store, RUN)
    plain = name in ("datasets", "index")
    uses = [
        lambda: bundle.checkpoint("train", name, 1), lambda: bundle.checkpoint("train", 1, name),
        lambda: bundle.stage_files.segments("train", name, "logs", "rank0"), lambda: bundle.stage_files.attempts("a/b"),
        lambda: data_key("d", name), lambda: manifest_key("d", name), lambda: result_folder(name),
        lambda: task_folder(name), *([] if plain else [
            lambda: bundle.artefact("train", name), lambda: bundle.artefact(name, "x"),
            lambda: bundle.stage_files.segments(name, 1, "logs", "rank0"),
            lambda: bundle.stage_files.segments("train", 1, "logs", name),
            lambda: bundle.checkpoint(name, 1, 1), lambda: data_key(name, f"_versions/{RUN}-1"),
        ]),
    ]  # fmt: skip
    for use in uses:
        with pytest.raises(InputError):
            use()


def test_what_has_no_name_is_not_listed(store: Store, capfd: pytest.CaptureFixture[str]) -> None:
    """And it is said once, without what a terminal would obey."""
    folder = Path(store.root) / "datasets"
    folder.mkdir(parents=True)
    for name in ("good", "b\x1b]0;title\x07d", "a\u202eb", "st*r"):
        (folder / name).touch()
    assert [store.list("datasets"), store.list("datasets")] == [["good"]] * 2
    assert [found.key for found in store.find("datasets")] == ["good"]
    told = capfd.readouterr().err
    assert told.count("passed over") == 3
    assert r"b\x1b]0;title\x07d" in told
    assert "\x1b" not in told


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes links that belong to others")
def test_somebody_elses_link_is_not_followed_to_write_or_remove(store: Store, tmp_path: Path) -> None:
    """On a disk that several users write; a link of one's own is followed."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("mine")
    store.put("seen", b"")
    for name in ("theirs", "own"):
        os.symlink(elsewhere, store.path(name))
    os.lchown(store.path("theirs"), 12345, 12345)
    for act in (
        lambda: store.put("theirs/x", b""),
        lambda: store.create("theirs/x", b""),
        lambda: store.delete("theirs/file"),
        lambda: store.delete_tree("theirs/file"),
        lambda: store.copy("seen", "theirs/x"),
        lambda: store.point("theirs/x", "y"),
        lambda: store.put_file("theirs/x", elsewhere / "file"),
    ):
        with pytest.raises(StoreRefused, match="belongs to user 12345"):
            act()
    assert os.listdir(elsewhere) == ["file"]
    store.put("own/x", b"1")
    assert (elsewhere / "x").read_bytes() == b"1"
    store.delete_tree("theirs")
    assert elsewhere.exists()


def test_no_more_is_read_than_an_object_may_have(store: Store) -> None:
    """Its size is looked at first, so that one of 1 GiB, which takes no disk here, costs nothing."""
    store.put("small", b"12345")
    os.truncate(store.path("small"), 1 << 30)
    with pytest.raises(StoreBroken, match="1,073,741,824 bytes"):
        store.get("small")
    store.put("small", b"12345")
    assert store.get("small", 5) == b"12345"
    with pytest.raises(StoreBroken, match="5 bytes, and at most 4"):
        store.get("small", 4)


def test_what_is_no_plain_file_is_not_waited_for(store: Store) -> None:
    """A pipe, a device, a folder and a ring of links in the place of an object."""
    store.put("x/y", b"")
    os.mkfifo(store.path("pipe"))
    os.symlink("/dev/zero", store.path("endless"))
    os.symlink("ring", store.path("ring"))
    for name in ("pipe", "endless", "ring", "x"):
        with pytest.raises(StoreBroken, match="no plain file"):
            store.get(name)
