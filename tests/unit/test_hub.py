"""Named weights, against a hub of our own on this machine: downloaded once, pinned, checked for ever."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from published import oracle, write_hugging_face, write_open_clip
from zeroflaw.errors import WeightsError
from zeroflaw.files import sha256
from zeroflaw.towers.backbone import Backbone
from zeroflaw.towers.catalogue import REGISTRY, Model
from zeroflaw.towers.folder import load_folder
from zeroflaw.towers.layouts import hugging_face_clip
from zeroflaw.towers.weights import load_backbone

pytest.importorskip("transformers")

NAME = "Tiny-8/random"
COMMIT = "a" * 40


class Hub:
    """As much of the hub as huggingface-hub asks for: repository facts, and files with commit and hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commit = COMMIT
        self.exists = True
        self.declared: dict[str, str] = {}
        self.requests: list[str] = []

    def facts(self) -> dict[str, Any]:
        return {
            "id": "someone/tiny",
            "modelId": "someone/tiny",
            "sha": self.commit,
            "siblings": [self._sibling(path) for path in sorted(self.folder.iterdir())],
        }

    def _sibling(self, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {"rfilename": path.name, "size": path.stat().st_size, "blobId": "0" * 40}
        if path.suffix == ".safetensors":
            found["lfs"] = {"size": path.stat().st_size, "sha256": self.digest(path), "pointerSize": 134}
        return found

    def digest(self, path: Path) -> str:
        return self.declared.get(path.name) or sha256(path)


def handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def log_message(self, *_: Any) -> None:
            """Stay silent."""

        def answer(self) -> None:
            path = self.path.split("?")[0]
            hub.requests.append(path)
            if not hub.exists:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.end_headers()
                return
            if path.startswith("/api/models/"):
                self.send(json.dumps(hub.facts()).encode(), {"Content-Type": "application/json"})
                return
            file = hub.folder / path.rpartition("/")[2]
            if not file.is_file():
                self.send_error(404)
                return
            etag = (
                hub.digest(file)
                if file.suffix == ".safetensors"
                else hashlib.sha1(file.read_bytes()).hexdigest()
            )
            self.send(file.read_bytes(), {"ETag": f'"{etag}"', "X-Repo-Commit": hub.commit})

        def send(self, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for key, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    return Handler


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, clip_vocabulary: Path) -> Path:
    return write_open_clip(oracle(), tmp_path_factory.mktemp("hub") / "tiny", clip_vocabulary)


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    config = hugging_face_clip(oracle().config.to_dict(), "config.json")
    found = Model(name=NAME, licence="MIT", source="someone/tiny", config=config, note="as published")
    monkeypatch.setitem(REGISTRY, NAME, found)
    return found


@pytest.fixture
def hub(published: Path, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    copy = tmp_path / "hub"
    copy.mkdir()
    for path in published.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    found = Hub(copy)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(found))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("ZEROFLAW_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def load(**options: Any) -> Backbone:
    return load_backbone(NAME, device="cpu", **{"offline": False, **options})


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Where the weights are kept in our format."""
    return tmp_path / "cache" / "weights" / "Tiny-8--random"


@pytest.mark.parametrize("layout", ["open_clip", "Hugging Face"])
def test_the_first_load_downloads_and_keeps_a_copy_in_our_format(
    layout: str, hub: Hub, copy: Path, clip_vocabulary: Path
) -> None:
    weights = "open_clip_model.safetensors"
    if layout == "Hugging Face":
        weights = "model.safetensors"
        for path in hub.folder.iterdir():
            path.unlink()
        write_hugging_face(oracle(), hub.folder, clip_vocabulary)
    backbone = load()
    assert (backbone.name, backbone.licence, backbone.revision) == (NAME, "MIT", COMMIT)
    assert backbone.sha256 == sha256(hub.folder / weights)
    assert load_folder(copy).record == backbone.record
    config = json.loads((copy / "config.json").read_text(encoding="utf-8"))
    assert (config["source"], config["revision"], config["note"]) == ("someone/tiny", COMMIT, "as published")


def test_later_loads_need_neither_network_nor_download(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load()
    hub.requests.clear()
    hub.commit = "b" * 40
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    for again in (load(), load(offline=True)):
        assert again.fingerprint == first.fingerprint
        assert again.record == first.record
    assert hub.requests == []


def test_only_the_files_that_are_needed_are_fetched(hub: Hub) -> None:
    (hub.folder / "open_clip_pytorch_model.bin").write_bytes(b"pickle")
    (hub.folder / "model.safetensors").write_bytes(b"the image tower alone, for another library")
    load()
    asked = {path.rpartition("/")[2] for path in hub.requests}
    assert not asked & {"open_clip_pytorch_model.bin", "model.safetensors"}


def test_a_pinned_commit_is_asked_for(hub: Hub, model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRY, NAME, model.model_copy(update={"revision": COMMIT}))
    load()
    assert hub.requests[0].endswith(f"/revision/{COMMIT}")
    assert all(f"/resolve/{COMMIT}/" in path for path in hub.requests[1:])


def test_a_file_that_differs_from_what_the_hub_declares_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.declared["open_clip_model.safetensors"] = "0" * 64
    with pytest.raises(WeightsError, match=f"sha256 {'0' * 64} was wanted, got"):
        load()
    assert not (tmp_path / "cache").exists()


def test_a_copy_that_changes_later_is_refused(hub: Hub, copy: Path) -> None:
    load()
    data = bytearray((copy / "model.safetensors").read_bytes())
    data[-5] ^= 1
    (copy / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match=r"damaged or was changed.*delete .* to have it made again"):
        load(offline=True)


def test_another_model_than_the_catalogue_says_is_refused(
    hub: Hub, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = hugging_face_clip(oracle(activation="quick_gelu").config.to_dict(), "config.json")
    monkeypatch.setitem(REGISTRY, NAME, model.model_copy(update={"config": config}))
    with pytest.raises(WeightsError, match=r"must hold .*quick_gelu.*got .*'gelu'"):
        load()


def test_offline_without_files_says_what_to_fetch(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for offline in (True, None):  # None follows HF_HUB_OFFLINE
        with pytest.raises(WeightsError) as caught:
            load(offline=offline)
        for part in ("someone/tiny", "open_clip_model.safetensors", "HF_HOME", "local-dir:", "switched off"):
            assert part in str(caught.value)
    assert hub.requests == []


def test_files_that_another_program_cached_are_found_offline(hub: Hub) -> None:
    for name in ("open_clip_config.json", "open_clip_model.safetensors", "vocab.json", "merges.txt"):
        huggingface_hub.hf_hub_download("someone/tiny", name, endpoint=os.environ["HF_ENDPOINT"])
    assert load(offline=True).revision == COMMIT


def test_a_repository_that_is_not_there_leads_to_the_release_file(
    hub: Hub, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.exists = False
    with pytest.raises(WeightsError, match="there is no repository someone/tiny, or it is private"):
        load()
    e32 = REGISTRY["ViT-B-16-plus-240/laion400m_e32"]
    with pytest.raises(WeightsError) as caught:
        load_backbone(e32.name, device="cpu", offline=False)
    for part in (
        f"no repository {e32.source}",
        "github.com/mlfoundations/open_clip/releases",
        f"convert vit_b_16_plus_240-laion400m_e32-699c4b84.pt FOLDER --config {e32.name} --tokenizer",
    ):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(WeightsError, match="could not be downloaded") as caught:
        load()
    assert "\n" not in str(caught.value)


def test_a_repository_without_safetensors_is_refused(hub: Hub) -> None:
    (hub.folder / "open_clip_model.safetensors").rename(hub.folder / "open_clip_pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"CLIP in safetensors.*open_clip_pytorch_model\.bin"):
        load()


@pytest.mark.parametrize("cache", ["off", "file"])
def test_without_a_cache_weights_are_read_in_place_and_that_is_said(
    cache: str, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kept = load()
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    monkeypatch.setenv("ZEROFLAW_CACHE", "off" if cache == "off" else str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING, "zeroflaw"):
        found = load()
    assert (found.fingerprint, found.record) == (kept.fingerprint, kept.record)
    assert "read from its source every time" in caplog.text


def test_nothing_is_drawn_where_nobody_watches(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    load()
    out, err = capfd.readouterr()
    assert out == err == ""


def test_local_folders_in_other_layouts_are_imported_once(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROFLAW_CACHE", str(tmp_path / "cache"))
    folder = Path(shutil.copytree(published, tmp_path / "theirs"))
    first = load_backbone(f"local-dir:{folder}", device="cpu")
    assert (first.name, first.sha256) == ("theirs", sha256(folder / "open_clip_model.safetensors"))
    (copy,) = (tmp_path / "cache" / "weights").iterdir()
    assert load_folder(copy).record == first.record
    with monkeypatch.context() as patch:
        patch.setattr("zeroflaw.towers.importing.import_weights", None)  # is not called
        assert load_backbone(f"local-dir:{folder}", device="cpu").fingerprint == first.fingerprint
    write_open_clip(oracle(seed=1), folder, published)
    assert load_backbone(f"local-dir:{folder}", device="cpu").sha256 != first.sha256
