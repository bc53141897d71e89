"""Very many images: what there is to judge, rows, parts, and what happens when workers die."""

from __future__ import annotations

import io
import json
import os
import signal
import socket
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.command import refused, run

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
pq = pytest.importorskip("pyarrow.parquet")
dataset = pytest.importorskip("pyarrow.dataset").dataset

from kill_workers import torture  # noqa: E402  after the skips

from zeroflaw.detectors import open_fitted  # noqa: E402
from zeroflaw.errors import ImageError, InputError, OutputError, UsageError  # noqa: E402
from zeroflaw.files import only_writer  # noqa: E402
from zeroflaw.scale.cluster import HEADLESS, Cluster  # noqa: E402
from zeroflaw.scale.driving import BEAT, DEATHS, Drive  # noqa: E402
from zeroflaw.scale.items import Block, Item, blocks, fetch, find_items, without  # noqa: E402
from zeroflaw.scale.judging import Task, fingerprint, judge, pack  # noqa: E402
from zeroflaw.scale.store import Keys, Store  # noqa: E402
from zeroflaw.scale.working import Done  # noqa: E402


def png(seed: int, side: int = 32) -> bytes:
    stream = io.BytesIO()
    draw = np.random.default_rng(seed)
    Image.fromarray(draw.integers(0, 256, (side, side, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def folder_of(tmp_path: Path, count: int) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for number in range(count):
        (folder / ("deep" if number % 2 else ".") / f"{number:04d}.png").write_bytes(png(number))
    (folder / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").write_bytes(png(0))
    return folder


def table_of(path: Path, column: str = "image", struct: bool = False) -> Path:
    cells: list[Any] = [png(0), None, b"no picture", png(3)]
    if struct:
        cells = [cell and {"bytes": cell, "path": "x.png"} for cell in cells]
    pq.write_table(pa.table({"id": [1, 2, 3, 4], column: cells}), path, row_group_size=3)
    return path


def archive_of(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in {"a.png": png(1), "a.json": b"{}", "b.jpg": png(2)}.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("saved") / "detector"
    open_fitted("rwda", {}).save(folder)
    files = pack(folder)
    return Task(files, fingerprint(files))


def test_folders_patterns_tables_and_archives(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 4)
    names = [Path(item.name).name for item in find_items([str(folder)])]
    assert sorted(names) == ["0000.png", "0001.png", "0002.png", "0003.png"]
    assert [item.name for item in find_items([str(folder / "deep" / "*.png")])] == [
        str(folder / "deep" / name) for name in ("0001.png", "0003.png")
    ]
    table = table_of(folder / "t.parquet", struct=True)
    archive = archive_of(folder / "s.tar")
    rows = list(find_items([str(table)]))
    assert [(item.group, item.row) for item in rows] == [(0, 0), (0, 1), (0, 2), (1, 0)]
    assert fetch(rows[3], 10**6) == png(3)
    with pytest.raises(ImageError, match="no image in this row"):
        fetch(rows[1], 10**6)
    members = list(find_items([str(archive)]))
    assert [item.name.rpartition("#")[2] for item in members] == ["a.png", "b.jpg"]
    assert [fetch(item, 10**6) for item in members] == [png(1), png(2)]
    assert len(list(find_items([str(folder)]))) == 4 + 4 + 2
    keys = [item.key for item in find_items([str(folder)])]
    assert len(set(keys)) == len(keys)


def test_addresses_of_this_machine_are_places_on_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = folder_of(tmp_path, 2)
    many = ("detect", folder.as_uri(), "-o", (tmp_path / "out").as_uri(), "--workers", "1")
    assert run(*many) == 0
    assert len(rows_below(tmp_path / "out")) == 2
    assert dataset(tmp_path / "out", format="parquet").count_rows() == 2  # nothing beside the parts disturbs
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "photos"]


def test_folders_here_are_read_as_they_are(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    (folder / "away").symlink_to(folder / "deep")
    (folder / "gone.png").symlink_to(folder / "nothing.png")
    (folder / "same.png").symlink_to(folder / "0000.png")
    os.mkfifo(folder / "pipe.png")
    found = {Path(item.name).name: item for item in find_items([str(folder)])}
    assert list(found) == ["0000.png", "gone.png", "same.png", "0001.png"]
    assert fetch(found["same.png"], 10**6) == png(0)
    with pytest.raises(ImageError, match="cannot be fetched"):
        fetch(found["gone.png"], 10**6)


def test_a_key_is_of_content_and_place(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, 2)
    before = {item.name: item.key for item in find_items([str(folder)])}
    assert before == {item.name: item.key for item in find_items([str(folder)])}
    changed = folder / "0000.png"
    changed.write_bytes(png(77, 40))
    after = {item.name: item.key for item in find_items([str(folder)])}
    assert [name for name in before if before[name] != after[name]] == [str(changed)]


def test_memory_is_a_store_like_any(task: Task) -> None:
    system = fsspec.filesystem("memory")
    for number in range(3):
        system.pipe_file(f"/in/{number}.png", png(number))
    items = list(find_items(["memory://in"]))
    assert [item.name for item in items] == [f"memory:///in/{n}.png" for n in range(3)]
    store = Store("memory://out")
    about = {"detector": task.fingerprint}
    assert len(store.open_run(about)) == 0
    store.write(tuple(items), judge(tuple(items), task))
    done = store.open_run(about)
    assert len(done) == 3
    assert all(item.key in done for item in items)
    assert "f" * 32 not in done
    with pytest.raises(UsageError, match="another run: its detector is"):
        store.open_run({"detector": "other"})
    assert len(store.open_run({"detector": "other"}, overwrite=True)) == 0


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("missing", None, "cannot be read .FileNotFoundError"),
        ("empty", lambda p: p.mkdir(), "holds no images"),
        ("a.txt", lambda p: p.write_text("x"), "is no picture"),
        ("half.parquet", lambda p: p.write_bytes(table_of(p).read_bytes()[:-9]), "no whole Parquet file"),
        ("other.parquet", lambda p: table_of(p, "text"), "no column of encoded images"),
        ("half.tar", lambda p: p.write_bytes(b"\1" * 600), "no whole .tar archive"),
        ("nowhere://bucket", None, "nowhere://bucket cannot be read"),
    ],
)
def test_sources_that_are_none(tmp_path: Path, name: str, make: Any, words: str) -> None:
    if make is not None:
        make(tmp_path / name)
    with pytest.raises(InputError, match=words):
        list(find_items([name if "://" in name else str(tmp_path / name)]))


def test_blocks_keep_to_counts_bytes_and_groups() -> None:
    plain = [Item(str(n), str(n), str(n), 10) for n in range(5)]
    assert [len(block) for block in blocks(plain, 2)] == [2, 2, 1]
    assert [len(block) for block in blocks([Item("a", "a", "a", 40_000_000)] * 3, 64)] == [1, 1, 1]
    rows = [Item(str(n), str(n), "t", 1, group=n // 3, row=n % 3, column="image") for n in range(6)]
    assert [len(block) for block in blocks(rows, 64)] == [3, 3]


def test_a_run_that_goes_on_has_the_blocks_of_the_first() -> None:
    every = [Item(str(n), str(n), str(n), 20_000_000) for n in range(8)]
    assert [len(block) for block in blocks(every, 64)] == [3, 3, 2]
    left = list(without(blocks(every, 64), {"3", "4", "5"}))
    assert [[item.key for item in block] for block in left] == [["0", "1", "2"], ["6", "7"]]


def test_rows_are_the_commands_records(tmp_path: Path, task: Task) -> None:
    items = tuple(find_items([str(folder_of(tmp_path, 3)), str(table_of(tmp_path / "t.parquet"))]))
    rows = judge(items, task)
    assert [row["source"] for row in rows] == [item.name for item in items]
    assert [("error" in row) for row in rows] == [False] * 3 + [False, True, True, False]
    single = open_fitted("rwda", {}).predict([items[0].name])
    assert rows[0]["logit"] == pytest.approx(next(iter(single)).logit, abs=1e-4)
    store = Store(str(tmp_path / "out"))
    store.open_run({})
    store.write(items, rows)
    (part,) = (tmp_path / "out").glob("part-*.parquet")
    read = pq.read_table(part).to_pylist()
    assert [row["key"] for row in read] == [item.key for item in items]
    assert dict(read[0]["scores"]).keys() == rows[0]["scores"].keys()


def test_a_picture_above_the_limit_is_not_fetched(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(0))
    (item,) = find_items([str(tmp_path)])
    with pytest.raises(ImageError, match="more than the limit of 100"):
        fetch(item, 100)


def test_a_place_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")
    with pytest.raises(UsageError, match=r"thesis\.txt, which no run wrote"):
        Store(str(tmp_path)).open_run({})
    file = tmp_path / "thesis.txt"
    with pytest.raises((OutputError, InputError), match=r"thesis\.txt"):
        Store(str(file)).open_run({})


class FakeEngine:
    """Workers that die of some items."""

    ahead = 4

    def __init__(self, deadly: set[str], *, all_die: bool = False) -> None:
        self.deadly, self.all_die, self.judged, self.restarts = deadly, all_die, list[str](), 0

    def submit(self, block: Block) -> Future[Done]:
        future: Future[Done] = Future()
        if self.all_die or self.deadly & {item.name for item in block}:
            future.set_exception(BrokenProcessPool("killed"))
        else:
            self.judged += [item.name for item in block]
            future.set_result(Done(len(block)))
        return future

    def died(self, error: BaseException) -> bool:
        return isinstance(error, BrokenProcessPool)

    def restart(self) -> bool:
        self.restarts += 1
        return False

    def require(self) -> None:
        pass

    def close(self) -> None:
        pass


def items(count: int) -> Iterator[Item]:
    return (Item(str(n), f"key{n}", "u", 1) for n in range(count))


def test_known_keys() -> None:
    known = [f"{number:030x}{end:02x}" for number in range(300) for end in (0, 1, 255)]
    keys = Keys(b"".join(map(bytes.fromhex, known[::2])))
    assert len(keys) == 450
    assert [key in keys for key in known] == [number % 2 == 0 for number in range(900)]


def test_an_image_that_kills_workers_is_found_and_the_rest_is_judged_once() -> None:
    engine, given_up = FakeEngine({"13", "40"}), list[tuple[str, str]]()

    def give_up(block: Block, why: str) -> Done:
        given_up.extend((item.name, why) for item in block)
        return Done(len(block), unreadable=len(block))

    done = list(Drive(engine, give_up).run(blocks(items(50), 16)))
    assert sum(one.images for one in done) == 50
    assert sorted(name for name, _ in given_up) == ["13", "40"]
    assert given_up[0][1] == "its worker died 2 times (killed)"
    assert sorted(map(int, engine.judged)) == [n for n in range(50) if n not in (13, 40)]


def test_blocks_that_went_with_a_dead_worker_are_judged_again() -> None:
    class Pool(FakeEngine):
        """A pool of processes: until it is replaced nothing ends; then what was begun is cancelled."""

        def __init__(self) -> None:
            super().__init__({"5"})
            self.begun: list[Future[Done]] = []

        def submit(self, block: Block) -> Future[Done]:
            if self.restarts or any(item.name == "5" for item in block):
                return super().submit(block)
            self.begun.append(Future())
            return self.begun[-1]

        def restart(self) -> bool:
            for future in self.begun:
                future.cancel()
            super().restart()
            return True

    given_up = list[str]()

    def give_up(block: Block, why: str) -> Done:
        given_up.extend(item.name for item in block)
        return Done(len(block))

    engine = Pool()
    done = list(Drive(engine, give_up, patience=5).run(blocks(items(16), 4)))
    assert sum(one.images for one in done) == 16
    assert given_up == ["5"]
    assert sorted(map(int, engine.judged)) == [n for n in range(16) if n != 5]


def test_workers_that_always_die_end_the_run_with_a_reason() -> None:
    engine = FakeEngine(set(), all_die=True)
    with pytest.raises(InputError, match=f"died {DEATHS} times in a row"):
        list(Drive(engine, lambda block, why: Done()).run(blocks(items(500), 4)))


def test_a_run_without_progress_ends_with_a_reason() -> None:
    class Stuck(FakeEngine):
        def submit(self, block: Block) -> Future[Done]:
            return Future()

    with pytest.raises(InputError, match="no block was finished for 0 seconds"):
        list(Drive(Stuck(set()), lambda block, why: Done(), patience=0.05).run(blocks(items(5), 4)))


def test_a_cluster_that_has_lost_its_head_ends_the_run() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        engine = Cluster.__new__(Cluster)
        engine._address, engine._head = "10.0.0.5:6379", head.getsockname()
        engine._looked = engine._seen = 0.0
        engine.require()
        assert engine._seen > 0
    engine._looked -= BEAT
    engine.require()  # it may be away for a while
    engine._looked -= BEAT
    engine._seen -= HEADLESS
    with pytest.raises(InputError, match=r"Ray cluster at 10\.0\.0\.5:6379 has lost its head"):
        engine.require()


def rows_below(folder: Path) -> list[dict[str, Any]]:
    return [row for part in sorted(folder.glob("part-*.parquet")) for row in pq.read_table(part).to_pylist()]


def test_the_command_goes_on_after_a_kill_and_scores_nothing_twice(tmp_path: Path) -> None:
    photos, out = folder_of(tmp_path, 200), tmp_path / "out"
    command = [sys.executable, "-m", "zeroflaw", "detect", str(photos), "-o", str(out), "--workers", "1"]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 120
    while not list(out.glob("part-*.parquet")) and started.poll() is None:
        assert time.monotonic() < limit
        time.sleep(0.02)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    before = {row["source"] for row in rows_below(out)}
    assert 0 < len(before) < 200
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr
    assert f"going on: {len(before)} images have a row" in ended.stderr
    rows = rows_below(out)
    assert len(rows) == len({row["source"] for row in rows}) == 200
    assert "core-hours" in ended.stderr


def test_a_table_has_one_writer_and_may_be_whole_already(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = folder_of(tmp_path, 3), tmp_path / "new" / "out"
    command = ("detect", photos, "-o", out, "--workers", "1")
    out.parent.mkdir()
    with only_writer(out):
        refused(capsys, 2, "another run is writing", *command)
        link = out.with_name("link")
        link.symlink_to(out)
        refused(capsys, 2, "another run is writing", *command[:3], link, *command[4:])
        refused(capsys, 2, "another run is writing", *command[:3], out.as_uri(), *command[4:])
        link.unlink()
        assert not out.exists()
    refused(capsys, 74, "results cannot go to", *command[:3], photos / "0000.png" / "x" / "y", *command[4:])
    assert run(*command) == 0
    assert "core-hours" in capsys.readouterr().err
    assert run(*command) == 0
    said = capsys.readouterr().err
    assert "going on: 3 images" in said
    assert "nothing was left to judge" in said
    assert "core-hours" not in said
    assert len(rows_below(out)) == 3
    assert [path.name for path in out.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--workers", "2"), "say where with -o"),
        (("--workers", "2", "-o", "out", "--together"), "--together cannot be used on very many images"),
        (("--workers", "2", "-o", "out", "--detector", "mutual"), "compares photos with one another"),
        (("--workers", "2", "-o", "out", "--fail-on-anomaly"), "needs a verdict"),
    ],
)
def test_options_that_have_no_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], words: str
) -> None:
    folder = folder_of(tmp_path, 1)
    refused(capsys, 2, words, "detect", folder, *(tmp_path / a if a == "out" else a for a in arguments))
    assert not (tmp_path / "out").exists()


def test_lines_and_exit_codes(tmp_path: Path) -> None:
    folder, out = folder_of(tmp_path, 3), tmp_path / "out"
    (folder / "bad.png").write_bytes(b"no picture")
    many = ("detect", folder, "-o", out, "--workers", "1", "--table", "jsonl", "--threshold-logit", "-99")
    assert run(*many) == 3
    (part,) = out.glob("part-*.jsonl")
    rows = [json.loads(line) for line in part.read_text().splitlines()]
    assert [row.get("label") for row in rows if "error" not in row] == [True] * 3
    assert [Path(row["source"]).name for row in rows if "error" in row] == ["bad.png"]
    assert run(*many, "--overwrite") == 3


@pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="workers are found in /proc, which is Linux's"
)
def test_killed_workers_lose_and_double_nothing(tmp_path: Path) -> None:
    found = torture(tmp_path, images=260, kills=2, workers=1, seed=0)
    assert found["rows"] == 260
    assert found["kills"] == 2
