"""Threads, forks and new processes: the same answers, and no hang."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zeroflaw
from zeroflaw.cli.main import main
from zeroflaw.detectors import open_fitted, opening
from zeroflaw.detectors.contract import Detector
from zeroflaw.runtime import onnx_engine, processors
from zeroflaw.runtime.memory import nearest

OLD = os.environ.get("ONEDNN_MAX_CPU_ISA") == "SSE41"  # without AVX2 OpenVINO does not run


def picture(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (60, 80, 3), np.uint8)


def judged(detector: Detector, number: int) -> float:
    return next(iter(detector.predict([picture(number)]))).logit


def judge_in_child(number: int) -> float:
    return judged(zeroflaw.load("rwda"), number)


@pytest.fixture(scope="module")
def wanted() -> list[float]:
    detector = zeroflaw.load("rwda")
    return [judged(detector, number) for number in range(4)]


@pytest.mark.parametrize("engine", ["onnx", "torch"] if OLD else ["onnx", "openvino", "torch"])
def test_threads_share_a_detector(engine: str, wanted: list[float]) -> None:
    detector = zeroflaw.load("rwda", engine=engine)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda number: judged(detector, number % 4), range(32)))
    assert found == pytest.approx(wanted * 8, abs=1e-3)


def test_many_loads_at_once_load_one_backbone(monkeypatch: pytest.MonkeyPatch) -> None:
    opening._load.cache_clear()
    with ThreadPoolExecutor(32) as pool:
        loaded = list(pool.map(lambda _: zeroflaw.load("rwda", engine="torch"), range(32)))
    assert len({id(detector.backbone_) for detector in loaded}) == 1  # type: ignore[attr-defined]
    assert opening._load.cache_info().misses == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # newer Pythons warn of any fork beside threads
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_judges_with_what_was_loaded_before(wanted: list[float]) -> None:
    detector = zeroflaw.load("rwda")
    judged(detector, 0)  # the engine and its threads are there
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, repr(judged(detector, 1)).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as stream:
        said = stream.read()
    os.waitpid(child, 0)
    assert float(said) == pytest.approx(wanted[1], abs=1e-3)
    assert judged(detector, 2) == pytest.approx(wanted[2], abs=1e-3)  # the parent goes on


def test_new_processes_give_the_same_answers(wanted: list[float]) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(judge_in_child, range(4))) == pytest.approx(wanted, abs=1e-3)


def test_threads_can_be_limited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen: list[int | None] = []
    original = onnx_engine.open_onnx

    def spy(data: bytes, dtype: str, threads: int | None) -> onnx_engine.Graph:
        seen.append(threads)
        return original(data, dtype, threads)

    monkeypatch.setattr(onnx_engine, "open_onnx", spy)
    Image.fromarray(picture(0)).save(tmp_path / "photo.png")
    try:
        with pytest.raises(SystemExit) as left:
            main(["detect", str(tmp_path / "photo.png"), "--threads", "3", "-q"])
    finally:
        processors.limit_threads(None)
    assert left.value.code == 0
    assert set(seen) == {3}


@pytest.mark.parametrize(
    ("said", "count"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("10000 100000", 1),
        ("max 100000", 7),
        ("", 7),
        ("9 0 0", 7),
    ],
)
def test_a_container_has_fewer_processors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, count: int
) -> None:
    own = groups(monkeypatch, tmp_path, "0::/\n")
    assert counted() == 7
    (own / "cpu.max").write_text(said)
    assert counted() == count
    processors.limit_threads(3)
    try:
        assert processors.processor_count() == processors.thread_limit() == 3
    finally:
        processors.limit_threads(None)


def test_a_service_has_the_processors_of_the_narrowest_group_it_is_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = groups(monkeypatch, tmp_path, "4:memory:/elsewhere\n0::/line.slice/camera.service\n")
    assert counted() == 7  # of groups that cannot be seen from here, nothing is known
    own = root / "line.slice" / "camera.service"
    own.mkdir(parents=True)
    (own / "cpu.max").write_text("max 100000\n")
    (own.parent / "cpu.max").write_text("250000 100000\n")
    assert counted() == 3
    (own / "cpu.max").write_text("200000 100000\n")
    assert counted() == 2
    (tmp_path / "cpu.max").write_text("1 1\n")  # not a group of this process
    (root / "elsewhere").mkdir()
    (root / "elsewhere" / "cpu.max").write_text("1 1\n")
    assert counted() == 2


@pytest.mark.parametrize(("quota", "count"), [("-1", 7), ("150000", 2)])
def test_groups_of_the_first_generation_count_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, quota: str, count: int
) -> None:
    own = groups(monkeypatch, tmp_path, "3:cpu,cpuacct:/docker/9\n2:cpuset:/\n0::/\n") / "cpu"
    own.mkdir()  # within the container its own group is the root
    (own / "cpu.cfs_quota_us").write_text(f"{quota}\n")
    (own / "cpu.cfs_period_us").write_text("100000\n")
    assert counted() == count


def counted() -> int:
    """Count the processors as a process that begins now does."""
    processors._share.cache_clear()
    return processors.processor_count()


def groups(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, own: str) -> Path:
    """Let this process have seven processors, and be in these groups of Linux; returns where they lie."""
    root, said = tmp_path / "groups", tmp_path / "own"
    root.mkdir()
    said.write_text(own)
    monkeypatch.setattr(processors, "_limit", None)
    monkeypatch.setattr(processors, "_GROUPS", root)
    monkeypatch.setattr(processors, "_OWN", said)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(7)), raising=False)
    return root


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_work_is_shared_out_in_order(monkeypatch: pytest.MonkeyPatch, threads: int) -> None:
    monkeypatch.setattr(processors, "processor_count", lambda: threads)
    assert processors.each(lambda number: number**2, range(50)) == [number**2 for number in range(50)]
    assert processors.each(str, []) == []
    with pytest.raises(ZeroDivisionError):
        processors.each(lambda number: 1 / number, [1, 0, 2])


@pytest.mark.parametrize("threads", [1, 5])
def test_distances_do_not_depend_on_how_they_are_shared_out(
    monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    photos = [picture(number) for number in range(3)]
    detector = open_fitted("memory-only", {}, reference=photos)
    wanted = [found.logit for found in detector.predict(photos)]
    monkeypatch.setattr("zeroflaw.runtime.memory.processor_count", lambda: threads)
    monkeypatch.setattr(processors, "processor_count", lambda: threads)
    again = open_fitted("memory-only", {}, reference=photos)
    assert [found.logit for found in again.predict(photos)] == pytest.approx(wanted, abs=1e-3)
    assert next(iter(again.predict(photos[:1]))).logit == pytest.approx(wanted[0], abs=1e-3)


def test_hidden_rows_of_a_memory_do_not_count() -> None:
    memory = np.eye(4, dtype=np.float32)
    assert nearest(memory, memory) == pytest.approx(1e-6)
    hidden = np.array([True, False, False, False])
    assert nearest(memory, memory, hidden)[0] == pytest.approx(1)
    assert nearest(memory, memory, hidden)[1:] == pytest.approx(1e-6)
    assert nearest(-memory, memory, ~hidden) == pytest.approx([2, 1, 1, 1])
    assert nearest(memory, memory, np.ones(4, bool)) == pytest.approx(1)
    assert nearest(memory, memory[:0]) == pytest.approx(1)
