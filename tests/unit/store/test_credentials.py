"""Credentials are told by their names, stay behind, and are named instead of written down."""

from __future__ import annotations

import io
import json
import subprocess
import zipfile
from pathlib import Path, PurePath

import pytest
import requests
from azure.core import exceptions as of_azure
from gcsfs.retry import HttpError

from runner import Dataset
from runner.backends import boot
from runner.code.archive import left_out, pack
from runner.data.files.listing import list_files
from runner.data.files.opening import filesystem
from runner.errors import InputError, SpecError, StoreRefused
from runner.plan.project import Project
from runner.store import Store, credentials
from runner.store.sharing import check_no_credentials

SECRET = (
    "lake.env", "prod.env.txt", "LAKE.ENV", "cert.PEM", "id_ecdsa", "id_dsa", ".aws/config", "aws_credentials",
    "_netrc", ".pgpass", ".s3cfg", ".boto", "rclone.conf", ".config/rclone/rclone.conf", "client_secret_1.json",
    "my-sa.json", "gcp-key.json", ".config/gcloud/application_default_credentials.json", "token", ".hf_token",
    ".huggingface/token", "wandb/settings", "admin.kubeconfig", "Secrets.yaml", ".streamlit/secrets.toml",
    "terraform.tfvars", ".dockercfg", "store.jks", ".envrc", ".ipynb_checkpoints/x.ipynb", ".gitconfig", ".ssh/id_foo",
    "pip.conf", "oauth.json", ".mc/config.json", ".passwd-s3fs", "deep/er/.KUBE/config", ".ssh/tools.py",
)  # fmt: skip
HARMLESS = (
    "jobs/token.py", "secrets.py", "credentials/reader.py", "tokens.json", "added_tokens.json", "tokenizer.json",
    "keys.csv", "environment.yml", "config.json", "monkey.txt", "data/key_facts.md", "requirements.txt",
)  # fmt: skip


@pytest.mark.parametrize("name", SECRET)
def test_files_of_secrets(name: str) -> None:
    """What programs keep credentials in by default is known by its name, whatever the capitals."""
    assert credentials.is_file_of_secrets(PurePath(name))


@pytest.mark.parametrize("name", HARMLESS)
def test_other_files(name: str) -> None:
    """Sources, and files that only sound alike, travel."""
    assert not credentials.is_file_of_secrets(PurePath(name))


@pytest.mark.parametrize("in_git", [True, False])
def test_what_stays_behind_is_told(tmp_path: Path, in_git: bool) -> None:
    """Files of secrets, and links out of the project, are not in the archive and are in the list of what is not; a
    linked module is."""
    root = tmp_path / "p"
    root.mkdir()
    if in_git:
        subprocess.run(["git", "init", "-q", str(root)], check=True)
    (tmp_path / "outside.txt").write_text("private")
    (tmp_path / "tools.py").write_text("x = 1\n")
    (root / "admin.kubeconfig").write_text("private")
    (root / "notes.txt").write_text("public")
    (root / "seems.txt").symlink_to(tmp_path / "outside.txt")
    (root / "again.txt").symlink_to(root / "notes.txt")
    (root / "mine.txt").symlink_to(root / "admin.kubeconfig")
    (root / "tools.py").symlink_to(tmp_path / "tools.py")
    project = Project(root, found=True)
    archive = zipfile.ZipFile(io.BytesIO(pack(project, [])))
    names = {name.removeprefix("project/") for name in archive.namelist() if name.startswith("project/")}
    assert {"notes.txt", "again.txt", "tools.py"} <= names
    assert left_out(project) == ["admin.kubeconfig", "mine.txt", "seems.txt"]
    assert not names & set(left_out(project))


@pytest.mark.parametrize(
    "options",
    [
        {"key": "AKIA"},
        {"secret": "x"},
        {"client_kwargs": {"aws_secret_access_key": "x"}},
        {"token": "/home/me/sa.json"},
        {"headers": {"Authorization": "Bearer x"}},
        {"password": "x"},
        {"connection_string": "x"},
        {"sas_token": "x"},
        {"storage_options": {"a": {"ApiKey": "x"}}},
        {"endpoint_url": "http://me:pass@host"},
        {"account_key": "x"},
    ],
)
def test_credentials_among_options_are_refused(options: dict[str, object]) -> None:
    """A dataset whose options hold a secret is refused by the option's name, and the value is not shown."""
    (name,) = credentials.given(options)
    with pytest.raises(SpecError) as refused:
        Dataset("s3://bucket/x", options=options)
    assert name in str(refused.value) or "password" in str(refused.value)
    assert "AKIA" not in str(refused.value)
    assert "me:pass" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"anon": True},
        {"client_kwargs": {"endpoint_url": "http://host:7070", "region_name": "x"}},
        {"token": "anon"},
        {"secret": "env:LAKE_SECRET"},
        {"profile": "research"},
        {"key": None},
        {"default_block_size": 5},
        {"ssl": True},
        {"config_kwargs": {"signature_version": "s3v4"}},
        {"requester_pays": True},
        {"tokenize": False},
    ],
)
def test_other_options_are_taken(options: dict[str, object]) -> None:
    """Endpoints, profiles and names of variables are no secrets."""
    assert credentials.given(options) == []
    assert Dataset("s3://bucket/x", options=options).options == options


def test_a_password_in_a_url_is_refused() -> None:
    """It would end in every manifest."""
    with pytest.raises(SpecError, match="password") as refused:
        Dataset("ftp://me:hunter2@host/x")
    assert "hunter2" not in str(refused.value)


def test_a_named_variable_is_read_where_the_data_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    """Data, store and boot text take the value from the environment; without it the error names the variable."""
    options = {"client_kwargs": {"aws_secret_access_key": "env:LAKE_SECRET"}, "key": "env:LAKE_KEY"}
    monkeypatch.setenv("LAKE_KEY", "k")
    monkeypatch.delenv("LAKE_SECRET", raising=False)
    for open_it in (lambda: filesystem("s3://bucket/x", options), lambda: Store("s3://bucket/x", options).fs):
        with pytest.raises(InputError, match="LAKE_SECRET"):
            open_it()
    monkeypatch.setenv("LAKE_SECRET", "s")
    wanted = {"client_kwargs": {"aws_secret_access_key": "s"}, "key": "k"}
    assert credentials.resolved(options) == boot.named(options) == wanted
    assert filesystem("s3://bucket/x", options)[0].key == "k"
    store = Store("s3://bucket/x", options)
    assert store.fs.key == "k"
    assert json.dumps(store.options) == json.dumps(options)


def test_a_store_for_other_machines_names_its_secrets() -> None:
    """What pods' specs would show is refused; the name of a variable is not."""
    check_no_credentials(Store("s3://bucket/x", {"secret": "env:LAKE_SECRET"}), "in the pods' specs", "do")
    with pytest.raises(StoreRefused, match="env:NAME"):
        check_no_credentials(Store("s3://bucket/x", {"secret": "hunter2"}), "in the pods' specs", "do")


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("gs://bucket/x", {"token": "ya29.x"}),
        ("gs://bucket/x", {"token": {"private_key": "x"}}),
        ("az://lake/x", {"account_name": "mine", "account_key": "x"}),
        ("az://lake/x", {"account_name": "mine", "sas_token": "x"}),
        ("az://lake/x", {"connection_string": "AccountKey=x"}),
        ("az://lake/x", {"account_name": "mine", "client_id": "a", "tenant_id": "b", "client_secret": "x"}),
    ],
)
def test_credentials_of_other_clouds_are_known_by_their_names(url: str, options: dict[str, object]) -> None:
    """What gcsfs and adlfs take is refused where others could read it, and its value is not shown; how they are told
    where to look is not.
    """
    with pytest.raises(StoreRefused, match="env:NAME") as refused:
        check_no_credentials(Store(url, options), "in the pods' specs", "do")
    assert "ya29" not in str(refused.value)
    for harmless in ({"token": "google_default"}, {"account_name": "mine", "anon": False}, {"sas_token": "env:SAS"}):
        check_no_credentials(Store(url, harmless), "in the pods' specs", "do")


def _with(error: Exception, **fields: object) -> Exception:
    vars(error).update(fields)
    return error


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionError("no route"), True),
        (of_azure.ServiceRequestError("no route"), True),
        (_with(of_azure.HttpResponseError("busy"), status_code=503), True),
        (_with(of_azure.HttpResponseError("no"), status_code=403), False),
        (of_azure.ClientAuthenticationError("no identity"), False),
        (HttpError({"code": 503, "message": "busy"}), True),
        (HttpError({"code": 429, "message": "later"}), True),
        (HttpError({"code": 401, "message": "who"}), False),
        (OSError("Forbidden: https://lake/x"), False),
        (requests.exceptions.ProxyError(), True),
        (FileNotFoundError(2, "no"), False),
        (ValueError("no"), False),
    ],
)
def test_a_pod_waits_for_a_store_that_is_away(error: Exception, away: bool) -> None:
    """Before runner itself is there, too, of whichever client the error is; what is refused is told at once."""
    assert boot.is_away(error) is away


def test_no_file_system_caches_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of this machine are listed with options that name a variable, too."""
    (tmp_path / "a.txt").write_text("x")
    monkeypatch.setenv("MKDIR", "1")
    assert len(list_files(str(tmp_path), {"auto_mkdir": "env:MKDIR"})) == 1


def test_a_profile_names_whose_credentials_a_store_uses() -> None:
    """Stores of one profile share what they know of it."""
    stores = [Store("s3://bucket/x", {"profile": profile}) for profile in ("mine", "mine", "others")]
    mine, again, others = (store.fs.session for store in stores)
    assert (mine.profile, others.profile) == ("mine", "others")
    assert again is mine
    assert stores[0].options == {"profile": "mine"}
