"""Very many images on an object store and on a Ray cluster; skipped where their packages are missing."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
pa = pytest.importorskip("pyarrow")

from zeroflaw.errors import InputError  # noqa: E402  after the skips
from zeroflaw.scale.items import fetch, find_items  # noqa: E402

COUNT = 130


def png(seed: int) -> bytes:
    stream = io.BytesIO()
    draw = np.random.default_rng(seed)
    Image.fromarray(draw.integers(0, 256, (32, 32, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def detect(*arguments: str, **more: Any) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "zeroflaw", "detect", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An S3 on this machine, with pictures in the bucket "photos", and an empty bucket "tables"."""
    server = pytest.importorskip("moto.server", reason="moto is not installed")
    pytest.importorskip("s3fs", reason="s3fs is not installed")
    for name in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"):
        monkeypatch.setenv(f"AWS_{name}", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    running = server.ThreadedMotoServer("127.0.0.1", 0)
    running.start()
    host, port = running.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    system = fsspec.filesystem("s3", skip_instance_cache=True, use_listings_cache=False)
    for bucket in ("photos", "tables"):
        system.mkdirs(bucket, exist_ok=True)  # one server's buckets outlive it in its process
    for number in range(COUNT):
        system.pipe_file(f"photos/line/{number:04d}.png", png(number))
    yield system
    running.stop()


def rows(system: Any, place: str) -> list[dict[str, Any]]:
    found = [name for name in system.ls(place, refresh=True) if "/part-" in name]
    return [row for name in found for row in pq.read_table(system.open(name)).to_pylist()]


def test_from_bucket_to_bucket_and_on_after_a_kill(store: Any) -> None:
    arguments = ("s3://photos/line", "-o", "s3://tables/run", "--workers", "1")
    started = detect(*arguments)
    limit = time.monotonic() + 200
    while started.poll() is None and not (store.exists("tables/run") and rows(store, "tables/run")):
        assert time.monotonic() < limit
        time.sleep(0.05)
    os.kill(started.pid, signal.SIGKILL)
    started.communicate()
    before = {row["source"] for row in rows(store, "tables/run")}
    again = detect(*arguments)
    _, said = again.communicate(timeout=300)
    assert again.returncode == 0, said
    found = rows(store, "tables/run")
    assert len(found) == len({row["source"] for row in found}) == COUNT
    assert f"{COUNT - len(before)} image" in said
    assert found[0]["source"].startswith("s3://photos/line/")


def test_shards_and_tables_in_a_bucket(store: Any) -> None:
    shard, table = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as archive:
        for number in range(3):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(png(number))
            archive.addfile(member, io.BytesIO(png(number)))
    pq.write_table(pa.table({"jpg": [png(3), png(4)]}), table)
    store.pipe_file("photos/packed/a.tar", shard.getvalue())
    store.pipe_file("photos/packed/b.parquet", table.getvalue())
    found = list(find_items(["s3://photos/packed"]))
    assert [fetch(item, 10**6) for item in found] == [png(number) for number in range(5)]


def test_a_lance_table_is_judged_as_it_was(tmp_path: Path) -> None:
    lance = pytest.importorskip("lance", reason="pylance is not installed")
    place = str(tmp_path / "t.lance")
    lance.write_dataset(pa.table({"id": [0, 1, 2], "image": [png(0), None, b"no picture"]}), place)
    lance.write_dataset(pa.table({"id": [3], "image": [png(3)]}), place, mode="append")
    ended = detect(place, "-o", str(tmp_path / "out"), "--workers", "1")
    _, said = ended.communicate(timeout=300)
    assert ended.returncode == 3, said
    found = [row for part in (tmp_path / "out").glob("part-*") for row in pq.read_table(part).to_pylist()]
    errors = {row["source"].rpartition("#")[2]: row["error"] for row in found}
    assert errors.pop("2").startswith("it is text, not an allowed kind of picture")
    assert errors == {"0": None, "1": "the table has no image in this row", "3": None}
    before = list(find_items([place]))
    lance.dataset(place).delete("id = 0")
    assert fetch(before[0], 10**6) == png(0)  # of the version that was found
    after = list(find_items([place]))
    assert fetch(after[2], 10**6) == png(3)
    assert not {item.key for item in before} & {item.key for item in after}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda place: place.mkdir(), "is no Lance table"),
        (lambda place: write_lance(place, {"text": ["a"]}), "no column of encoded images"),
        (lambda place: write_lance(place, {"image": pa.array([], pa.binary())}), "holds no images"),
    ],
)
def test_lance_tables_that_are_none(tmp_path: Path, make: Any, words: str) -> None:
    pytest.importorskip("lance", reason="pylance is not installed")
    make(tmp_path / "t.lance")
    with pytest.raises(InputError, match=words) as found:
        list(find_items([str(tmp_path / "t.lance")]))
    assert "/home/" not in str(found.value)


def write_lance(place: Path, columns: dict[str, Any]) -> None:
    pytest.importorskip("lance").write_dataset(pa.table(columns), str(place))


@pytest.mark.parametrize(
    ("source", "target", "words", "code"),
    [
        ("s3://nobucket/x", "s3://tables/a", "s3://nobucket/x cannot be read", 3),
        ("s3://photos/line", "s3://nobucket/a", "results cannot go to s3://nobucket/a", 74),
    ],
)
def test_places_that_are_not_there(store: Any, source: str, target: str, words: str, code: int) -> None:
    ended = detect(source, "-o", target, "--workers", "1")
    _, said = ended.communicate(timeout=200)
    assert words in said
    assert ended.returncode == code
    assert "Traceback" not in said


def test_a_cluster_gives_the_rows_of_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # else all others on this machine go first
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(COUNT):
        (photos / f"{number:04d}.png").write_bytes(png(number))
    found = {}
    for name, how in {"here": ("--workers", "1"), "cluster": ("--ray", "local", "--workers", "1")}.items():
        ended = detect(str(photos), "-o", str(tmp_path / name), *how)
        _, said = ended.communicate(timeout=400)
        assert ended.returncode == 0, said
        parts = sorted((tmp_path / name).glob("part-*.parquet"))
        found[name] = [row for part in parts for row in pq.read_table(part).to_pylist()]
    assert [row["key"] for row in found["here"]] == [row["key"] for row in found["cluster"]]
    for one, other in zip(found["here"], found["cluster"], strict=True):
        assert one["logit"] == pytest.approx(other["logit"], abs=1e-4)


def test_no_cluster_at_an_address(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    (tmp_path / "a.png").write_bytes(png(0))
    ended = detect(str(tmp_path / "a.png"), "-o", str(tmp_path / "out"), "--ray", "127.0.0.1:1")
    _, said = ended.communicate(timeout=300)
    assert ended.returncode == 2
    assert "no Ray cluster answers at 127.0.0.1:1" in said
