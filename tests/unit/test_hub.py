"""Named weights, against a hub of our own on this machine: downloaded once, pinned, checked for ever."""

from __future__ import annotations

import hashlib
import json
import logging
import os
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
from zeroflaw.towers.records import REGISTRY, Shape, WeightsRecord
from zeroflaw.towers.weights import load_backbone

pytest.importorskip("transformers")

NAME = "Tiny-8/random"
SHAPE = Shape(embed=40, image=48, patch=8, vision=(64, 2, 1), text=(64, 2, 1), vocabulary=1024)


class Hub:
    """As much of the hub as huggingface-hub asks for: repository facts, and files with commit and hash."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.commit = "a" * 40
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
def record(monkeypatch: pytest.MonkeyPatch) -> WeightsRecord:
    found = WeightsRecord(name=NAME, licence="MIT", source="someone/tiny", revision="main", shape=SHAPE)
    monkeypatch.setitem(REGISTRY, NAME, found)
    return found


@pytest.fixture
def hub(
    published: Path, record: WeightsRecord, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
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


def pin(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "cache" / "weights" / "Tiny-8--random.json"
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def test_the_first_load_downloads_and_pins(hub: Hub, tmp_path: Path, published: Path) -> None:
    backbone = load_backbone(NAME, device="cpu", offline=False)
    assert (backbone.name, backbone.licence, backbone.revision) == (NAME, "MIT", "a" * 40)
    assert backbone.sha256 == sha256(published / "open_clip_model.safetensors")
    found = pin(tmp_path)
    assert found["revision"] == "a" * 40
    assert found["files"].keys() == {
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "vocab.json",
        "merges.txt",
    }
    assert found["files"]["open_clip_model.safetensors"] == backbone.sha256


def test_later_loads_need_no_network(hub: Hub) -> None:
    first = load_backbone(NAME, device="cpu", offline=False)
    hub.requests.clear()
    again = load_backbone(NAME, device="cpu", offline=False)
    offline = load_backbone(NAME, device="cpu", offline=True)
    assert hub.requests == []
    assert first.sha256 == again.sha256 == offline.sha256


def test_only_the_files_that_are_needed_are_fetched(hub: Hub) -> None:
    (hub.folder / "open_clip_pytorch_model.bin").write_bytes(b"pickle")
    (hub.folder / "model.safetensors").write_bytes(b"the image tower alone, for another library")
    load_backbone(NAME, device="cpu", offline=False)
    asked = {path.rpartition("/")[2] for path in hub.requests}
    assert not asked & {"open_clip_pytorch_model.bin", "model.safetensors"}


def test_a_repository_in_hugging_face_layout(hub: Hub, clip_vocabulary: Path) -> None:
    for path in hub.folder.iterdir():
        path.unlink()
    write_hugging_face(oracle(), hub.folder, clip_vocabulary)
    assert load_backbone(NAME, device="cpu", offline=False).embed_dim == 40


def test_a_file_that_differs_from_what_the_hub_declares_is_refused(hub: Hub, tmp_path: Path) -> None:
    hub.declared["open_clip_model.safetensors"] = "0" * 64
    with pytest.raises(WeightsError, match=f"sha256 {'0' * 64} was wanted, got"):
        load_backbone(NAME, device="cpu", offline=False)
    assert not (tmp_path / "cache").exists()


def test_a_cached_file_that_changes_later_is_refused(hub: Hub, tmp_path: Path) -> None:
    load_backbone(NAME, device="cpu", offline=False)
    (weights,) = (tmp_path / "hf").rglob("open_clip_model.safetensors")
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.resolve().write_bytes(data)
    with pytest.raises(WeightsError, match="damaged or was changed"):
        load_backbone(NAME, device="cpu", offline=True)


def test_a_new_commit_on_the_hub_changes_nothing(hub: Hub, tmp_path: Path) -> None:
    first = load_backbone(NAME, device="cpu", offline=False)
    hub.commit = "b" * 40
    assert load_backbone(NAME, device="cpu", offline=False).revision == first.revision == "a" * 40


def test_a_lost_cache_is_fetched_again_at_the_pinned_commit(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load_backbone(NAME, device="cpu", offline=False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "another"))
    hub.requests.clear()
    load_backbone(NAME, device="cpu", offline=False)
    assert all(f"/resolve/{'a' * 40}/" in path for path in hub.requests)
    weights = hub.folder / "open_clip_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-5] ^= 1
    weights.write_bytes(data)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "third"))
    with pytest.raises(WeightsError, match="was wanted, got"):
        load_backbone(NAME, device="cpu", offline=False)


def test_another_model_than_the_record_says_is_refused(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    other = WeightsRecord(
        name=NAME, source="someone/tiny", revision="main", shape=SHAPE, activation="quick_gelu"
    )
    monkeypatch.setitem(REGISTRY, NAME, other)
    with pytest.raises(WeightsError, match=r"must hold .*quick_gelu.*got .*'gelu'"):
        load_backbone(NAME, device="cpu", offline=False)


def test_offline_without_files_says_what_to_fetch(hub: Hub) -> None:
    with pytest.raises(WeightsError) as caught:
        load_backbone(NAME, device="cpu", offline=True)
    for part in ("someone/tiny", "open_clip_model.safetensors", "HF_HOME", "local-dir:", "switched off"):
        assert part in str(caught.value)
    assert hub.requests == []


def test_hf_hub_offline_is_followed(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="switched off"):
        load_backbone(NAME, device="cpu")
    assert hub.requests == []


def test_files_that_another_program_cached_are_found_offline(hub: Hub) -> None:
    for name in ("open_clip_config.json", "open_clip_model.safetensors", "vocab.json", "merges.txt"):
        huggingface_hub.hf_hub_download("someone/tiny", name, endpoint=os.environ["HF_ENDPOINT"])
    assert load_backbone(NAME, device="cpu", offline=True).revision == "a" * 40


def test_a_hub_that_does_not_answer(
    record: WeightsRecord, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(WeightsError, match="could not be downloaded") as caught:
        load_backbone(NAME, device="cpu", offline=False)
    assert "\n" not in str(caught.value)


def test_a_repository_without_safetensors_is_refused(hub: Hub) -> None:
    (hub.folder / "open_clip_model.safetensors").rename(hub.folder / "open_clip_pytorch_model.bin")
    with pytest.raises(WeightsError, match=r"CLIP in safetensors.*open_clip_pytorch_model\.bin"):
        load_backbone(NAME, device="cpu", offline=False)


@pytest.mark.parametrize("text", ["{", "[]", '{"repository": 1}'])
def test_a_damaged_pin_is_not_passed_over(text: str, hub: Hub, tmp_path: Path) -> None:
    load_backbone(NAME, device="cpu", offline=False)
    path = tmp_path / "cache" / "weights" / "Tiny-8--random.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(WeightsError, match="commit and sha256 of the first download"):
        load_backbone(NAME, device="cpu", offline=False)


@pytest.mark.parametrize("files", [{"../../secret": "0"}, {}])
def test_a_pin_cannot_point_elsewhere_or_nowhere(files: dict[str, str], hub: Hub, tmp_path: Path) -> None:
    load_backbone(NAME, device="cpu", offline=False)
    path = tmp_path / "cache" / "weights" / "Tiny-8--random.json"
    path.write_text(json.dumps(pin(tmp_path) | {"files": files}), encoding="utf-8")
    with pytest.raises(WeightsError, match="delete that file"):
        load_backbone(NAME, device="cpu", offline=False)


def test_without_a_cache_the_missing_pin_is_said(
    hub: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("ZEROFLAW_CACHE", "off")
    with caplog.at_level(logging.WARNING, "zeroflaw"):
        load_backbone(NAME, device="cpu", offline=False)
    assert "cannot be pinned" in caplog.text


def test_nothing_is_drawn_where_nobody_watches(hub: Hub, capfd: pytest.CaptureFixture[str]) -> None:
    load_backbone(NAME, device="cpu", offline=False)
    out, err = capfd.readouterr()
    assert out == err == ""
