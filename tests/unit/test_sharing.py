"""Saved detectors to and from a hub of our own on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from tests.command import files, refused, run

from zeroflaw import errors, pull, push, sharing
from zeroflaw.detectors import load
from zeroflaw.detectors.presets import BUNDLED
from zeroflaw.runtime.folder import read_folder

# huggingface-hub's own way to send a large file.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


@dataclass
class Repository:
    files: dict[str, bytes] = field(default_factory=dict)
    private: bool = False
    commits: list[dict[str, bytes]] = field(default_factory=list)

    @property
    def sha(self) -> str:
        return f"{len(self.commits):040x}"


class Hub(ThreadingHTTPServer):
    """As much of the hub as pushing and pulling ask for: repositories, commits, large files, their facts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, Repository] = {}
        self.large: dict[str, bytes] = {}
        self.sizes: dict[str, int] = {}  # that are said of files in place of the true ones
        self.readers_only = False

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: Any) -> None:
        """Stay silent."""

    def send(self, body: bytes, code: int = 200, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer(self, value: object, code: int = 200, **headers: str) -> None:
        self.send(json.dumps(value).encode(), code, Content_Type="application/json", **headers)

    def body(self) -> bytes:
        if self.headers["Content-Length"] is not None:
            return self.rfile.read(int(self.headers["Content-Length"]))
        data = b""
        while size := int(self.rfile.readline(), 16):  # in chunks
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def known(self, name: str) -> Repository | None:
        found = self.server.repositories.get(name)
        if found is None:
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")
        return found

    def do_PUT(self) -> None:
        self.server.large[self.path.rpartition("/")[2]] = self.body()
        self.send(b"")

    def do_POST(self) -> None:
        said, parts = self.body(), self.path.partition("?")[0].strip("/").split("/")
        if parts[-1] == "validate-yaml":
            self.answer({"errors": [], "warnings": []})
        elif self.server.readers_only:
            self.answer({"error": "Forbidden: pass a write token"}, 403)
        elif parts[-1] == "create":
            asked = json.loads(said)
            name = f"{asked['organization']}/{asked['name']}"
            there = name in self.server.repositories
            private = bool(asked.get("private")) or asked.get("visibility") == "private"
            self.server.repositories.setdefault(name, Repository({".gitattributes": b""}, private))
            self.answer({"url": f"{self.server.address}/{name}", "name": name}, 409 if there else 200)
        elif parts[-1] == "batch":
            objects = json.loads(said)["objects"]
            for one in objects:
                one["actions"] = {"upload": {"href": f"{self.server.address}/lfs/{one['oid']}"}}
            self.answer({"transfer": "basic", "objects": objects})
        elif parts[4] == "preupload":
            names = [one["path"] for one in json.loads(said)["files"]]
            modes = ["lfs" if name.endswith(".safetensors") else "regular" for name in names]
            self.answer(
                {
                    "files": [
                        {"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": None}
                        for name, mode in zip(names, modes, strict=True)
                    ]
                }
            )
        elif parts[4] == "commit":
            self.commit("/".join(parts[2:4]), [json.loads(line) for line in said.splitlines()])

    def commit(self, name: str, operations: list[dict[str, Any]]) -> None:
        repository = self.server.repositories[name]
        for one in operations:
            value = one["value"]
            if one["key"] == "file":
                repository.files[value["path"]] = base64.b64decode(value["content"])
            elif one["key"] == "lfsFile":
                repository.files[value["path"]] = self.server.large[value["oid"]]
            elif one["key"] == "deletedFile":
                del repository.files[value["path"]]
        repository.commits.append(dict(repository.files))
        address = f"{self.server.address}/{name}/commit/{repository.sha}"
        self.answer({"commitUrl": address, "commitOid": repository.sha, "pullRequestUrl": None})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        parts = self.path.partition("?")[0].strip("/").split("/")
        if parts[:2] != ["api", "models"]:
            self.resolve(parts)
            return
        name = "/".join(parts[2:4])
        if (found := self.known(name)) is None:
            return
        if parts[4:5] == ["revision"] and parts[5] not in ("main", found.sha):
            self.answer({"error": "Invalid rev id"}, 404, X_Error_Code="RevisionNotFound")
            return
        sizes = {path: len(data) for path, data in found.files.items()} | self.server.sizes
        siblings = [{"rfilename": path, "size": size} for path, size in sizes.items()]
        self.answer({"id": name, "private": found.private, "sha": found.sha, "siblings": siblings})

    def resolve(self, parts: list[str]) -> None:
        found = self.known("/".join(parts[:2]))
        if found is not None:
            data = found.files[parts[-1]]
            self.send(data, ETag=f'"{hashlib.sha1(data).hexdigest()}"', X_Repo_Commit=parts[3])


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    shutil.copytree(BUNDLED / "rwda", tmp_path / "saved")
    return tmp_path / "saved"


def test_there_and_back(hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (saved / "notes.txt").write_text("not part of it")
    assert run("push", saved, "me/screws", "--private", "--message", "First") == 0
    assert capsys.readouterr().out == f"{hub.address}/me/screws/commit/{1:040x}\n"
    repository = hub.repositories["me/screws"]
    assert repository.private
    assert repository.files["README.md"].startswith(b"---\nlibrary_name: zeroflaw\n")
    assert "notes.txt" not in repository.files
    assert run("pull", "me/screws", "-o", tmp_path / "back") == 0
    assert f"at {1:040x} into" in capsys.readouterr().err
    before, after = files(saved), files(tmp_path / "back")
    assert {name: data for name, data in after.items() if name != "README.md"} == {
        name: data for name, data in before.items() if name not in ("README.md", "notes.txt")
    }
    assert load(tmp_path / "back").get_params() == load(saved).get_params()


def test_a_calibration_that_is_gone_goes_there_too(hub: Hub, saved: Path, tmp_path: Path) -> None:
    push(saved, "me/screws")
    repository = hub.repositories["me/screws"]
    repository.files["calibration.json"] = b"{}"
    push(saved, "me/screws")
    assert "calibration.json" not in repository.files
    assert pull("me/screws", tmp_path / "back", revision="main") == repository.sha
    with pytest.raises(errors.UsageError, match="already holds a detector"):
        pull("me/screws", tmp_path / "back")
    pull("me/screws", tmp_path / "back", overwrite=True)
    assert read_folder(tmp_path / "back").detector == "rwda"


def test_what_is_wrong_on_the_way_there(
    hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(capsys, 4, "is not a saved detector", "push", tmp_path, "me/screws")
    refused(capsys, 2, "a repository is called OWNER/NAME", "push", saved, "screws")
    refused(capsys, 2, "a repository is called OWNER/NAME", "push", saved, "me/../screws")
    hub.repositories["me/clip"] = Repository({"model.safetensors": b""})
    refused(capsys, 2, "something else than a detector, model.safetensors", "push", saved, "me/clip")
    hub.repositories["me/open"] = Repository()
    refused(capsys, 2, "is there already and public", "push", saved, "me/open", "--private")
    hub.readers_only = True
    refused(capsys, 74, "HTTP 403: you may not", "push", saved, "me/new")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    refused(capsys, 74, "me/screws could not be pushed to the hub", "push", saved, "me/screws")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    refused(capsys, 74, "switched off with HF_HUB_OFFLINE", "push", saved, "me/screws")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    refused(capsys, 2, "pip install 'zeroflaw[fit]'", "push", saved, "me/screws")
    assert all(not repository.commits for repository in hub.repositories.values())


def test_what_is_wrong_on_the_way_back(
    hub: Hub, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = files(saved)
    target = tmp_path / "back"

    def wrong(words: str, code: int = 4, more: tuple[str, ...] = (), **changed: bytes) -> None:
        held = {**sound, **{name.replace("__", "."): data for name, data in changed.items()}}
        hub.repositories["me/screws"] = Repository({name: data for name, data in held.items() if data})
        refused(capsys, code, words, "pull", "me/screws", "-o", target, *more)
        assert not target.exists()

    refused(capsys, 4, "there is none, or it is private", "pull", "me/none", "-o", target)
    wrong("has no such revision", more=("--revision", "v9"))
    wrong("holds no saved detector: it has no words.json", words__json=b"")
    wrong("holds no sound detector: head.safetensors is damaged", head__safetensors=b"x")
    wrong("holds no sound detector: config.json is not JSON", config__json=b"{")
    hub.sizes = {"../../evil.json": 1}
    wrong("names a file outside of its folder, ../../evil.json")
    hub.sizes = {"words.json": 1 << 40}
    wrong("words.json of me/screws has 1,099,511,627,776 bytes")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("x")
    refused(
        capsys,
        2,
        "thesis.txt, which was not written",
        "pull",
        "me/screws",
        "-o",
        tmp_path / "other",
    )
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    wrong("switched off with HF_HUB_OFFLINE")


def test_a_card_of_ones_own_is_left_as_it_is(hub: Hub, saved: Path) -> None:
    (saved / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    assert sharing.push(saved, "me/screws").endswith(f"{1:040x}")
    assert hub.repositories["me/screws"].files["README.md"].startswith(b"---\nlicense: mit")
