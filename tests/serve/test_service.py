"""The routes of the service, behind which a detector without a model judges."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving import GOOD, files, photo, red, save_redness, serving, wait_for
from starlette.testclient import TestClient

from zeroflaw.errors import UsageError
from zeroflaw.images import read_image
from zeroflaw.runtime.calibration import calibration_of
from zeroflaw.runtime.folder import ReferenceSeen, Seen, read_folder, write_calibration
from zeroflaw.serve.batcher import FullError, Ticket
from zeroflaw.serve.detectors import names_of
from zeroflaw.serve.service import Service, Settings

Running = tuple[TestClient, Service]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    with serving(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def refusing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """A service that tests share which leave it as it was."""
    with serving(tmp_path_factory.mktemp("refusing")) as found:
        yield found


def detect(client: TestClient, *pictures: bytes, **options: Any) -> list[dict[str, Any]]:
    answer = client.post("/v1/detect", files=files(*pictures), **options)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["results"])


def refusal(answer: Any, status: int) -> str:
    """Expect a problem, and return its sentence."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found = answer.json()
    assert found.keys() == {"type", "title", "status", "detail"}
    assert found["status"] == status
    assert "\n" not in found["detail"]
    assert "/home" not in found["detail"]
    return str(found["detail"])


def test_a_verdict_is_answered_and_kept(running: Running) -> None:
    client, _ = running
    good, bad = detect(client, photo(-3), photo(4, kind="JPEG"))
    assert (good["anomalous"], bad["anomalous"]) == (False, True)
    assert good["logit"] == -3
    assert good["source"] == "http"
    assert (good["width"], good["height"]) == (32, 24)
    assert good["record"]["label"] is False
    assert good["record"]["source"] == "0.png"
    assert client.get(f"/v1/history/{bad['id']}").json() == bad
    page = client.get("/v1/history", params={"order": "highest"}).json()
    assert [row["id"] for row in page["rows"]] == [bad["id"], good["id"]]
    assert (page["total"], page["next"]) == (2, None)


def test_pages_of_browsers_are_another_source(running: Running) -> None:
    client, _ = running
    [row] = detect(client, photo(), headers={"Origin": "http://127.0.0.1:8765"})
    assert row["source"] == "page"


def test_one_picture_may_be_the_body(running: Running) -> None:
    client, _ = running
    answer = client.post(
        "/v1/detect?name=part%207.png", content=photo(1), headers={"Content-Type": "image/png"}
    )
    assert answer.json()["results"][0]["name"] == "part 7.png"


def test_a_request_sent_again_is_in_the_history_once(running: Running) -> None:
    client, _ = running
    key = {"Idempotency-Key": "order 66"}
    first = detect(client, photo(1), photo(2), headers=key)
    assert detect(client, photo(1), photo(2), headers=key) == first
    assert client.get("/v1/history").json()["total"] == 2
    other = client.post("/v1/detect", files=files(photo(3)), headers=key)
    assert "Idempotency-Key was used for another picture" in refusal(other, 409)


def test_a_key_belongs_to_one_detector(tmp_path: Path) -> None:
    with serving(tmp_path, detectors=("red", "blue")) as (client, _):
        key = {"Idempotency-Key": "order 66"}
        first = detect(client, photo(1), headers=key, params={"detector": "red"})
        other = client.post("/v1/detect?detector=blue", files=files(photo(1)), headers=key)
        assert "used for the detector 'red', not 'blue'" in refusal(other, 409)
        assert detect(client, photo(1), headers=key, params={"detector": "red"}) == first
        assert client.get("/v1/history").json()["total"] == 1


def test_the_files_of_the_page_are_kept_until_they_change(running: Running) -> None:
    client, _ = running
    sent = client.get("/static/api.js")
    assert (sent.status_code, sent.headers["cache-control"]) == (200, "no-cache")
    again = client.get("/static/api.js", headers={"If-None-Match": sent.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert client.get("/v1/status").headers["cache-control"] == "no-store"


def test_pictures_and_their_drawings(running: Running) -> None:
    client, _ = running
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (900, 600), "red").save(turned, "JPEG", exif=exif)
    [row] = detect(client, turned.getvalue())
    sent = client.get(row["picture"])
    assert sent.content == turned.getvalue()
    assert sent.headers["content-type"] == "image/jpeg"
    assert "immutable" in sent.headers["cache-control"]
    for _ in range(2):  # made, and kept
        small = client.get(row["thumbnail"])
        with Image.open(io.BytesIO(small.content)) as image:
            assert (image.format, image.size) == ("JPEG", (213, 320))
    with Image.open(io.BytesIO(client.get(row["map"]).content)) as image:
        assert (image.mode, image.size) == ("RGBA", (4, 3))
        assert np.asarray(image)[..., 3].min() > 100  # hot
    [cold] = detect(client, photo(-6))
    with Image.open(io.BytesIO(client.get(cold["map"]).content)) as image:
        assert np.asarray(image)[..., 3].max() == 0


def test_what_is_not_kept_is_said(running: Running) -> None:
    client, service = running
    [row] = detect(client, photo(1))
    service.store.remove(row["digest"])
    assert "not kept any more" in refusal(client.get(row["picture"]), 404)
    assert "not kept any more" in refusal(client.get(row["thumbnail"]), 404)
    assert "no picture number 99" in refusal(client.get("/v1/history/99"), 404)
    refusal(client.get("/v1/history/99/map.png"), 404)


def test_pictures_need_not_be_kept(tmp_path: Path) -> None:
    with serving(tmp_path, settings=Settings(keep_pictures=False)) as (client, _):
        [row] = detect(client, photo(1))
        assert (row["picture"], row["thumbnail"], row["map"]) == (None, None, None)
    assert not (tmp_path / "pictures").exists()


def test_what_is_no_picture_is_named_among_others(running: Running) -> None:
    client, _ = running
    found = detect(client, photo(1), b"no picture", photo(2))
    assert [row.get("logit") for row in found] == [1, None, 2]
    assert found[1]["name"] == "1.png"
    assert found[1]["error"]["status"] == 415
    assert "it is text" in found[1]["error"]["detail"]
    assert "it is text" in refusal(client.post("/v1/detect", files=files(b"no picture")), 415)
    assert "the file is empty" in refusal(client.post("/v1/detect", files=files(b"")), 415)
    assert client.get("/v1/history").json()["total"] == 2


@pytest.mark.parametrize(
    ("send", "status", "says"),
    [
        ({"json": {"files": "x"}}, 415, "multipart/form-data"),
        ({"files": [("other", ("x.png", b"x"))]}, 422, "fields named 'files'"),
        ({"data": {"files": "x"}, "files": [("other", ("x.png", b"x"))]}, 422, "is text without a file name"),
        ({"data": {"files": "x"}, "files": files(b"x")}, 422, "with curl as -F files=@FILE"),
        ({"data": {"detector": "blue"}, "files": files(b"x")}, 422, "/v1/detect?detector=NAME"),
        ({"data": {f"a{n}": "x" for n in range(3000)}, "files": files(b"x")}, 413, "at most 16 fields"),
        (
            {"content": b"--x\r\n", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            422,
            "files",
        ),
        (
            {"content": b"junk", "headers": {"Content-Type": "multipart/form-data; boundary=x"}},
            400,
            "the form",
        ),
        ({"content": b"junk", "headers": {"Content-Type": "multipart/form-data"}}, 400, "the form"),
        ({"files": files(*[b"x"] * 1000)}, 413, "at most 64 pictures"),
        ({"files": files(*[b"x"] * 3), "params": {"detector": "no"}}, 404, "there is no detector 'no'"),
        ({"files": files(b"x"), "params": {"detector": "rad"}}, 404, "did you mean 'red'"),
    ],
)
def test_other_bodies_are_refused(refusing: Running, send: dict[str, Any], status: int, says: str) -> None:
    client, service = refusing
    assert says in refusal(client.post("/v1/detect", **send), status)
    assert service.line.waiting == 0


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("/v1/history?order=best", "order"),
        ("/v1/history?limit=0", "limit"),
        ("/v1/history?limit=5000", "limit"),
        ("/v1/history?since=yesterday", "since wants a date"),
        ("/v1/history?cursor=zz", "cursor must be"),
        ("/v1/history?verdict=bad", "verdict"),
        ("/v1/history.csv?until=x", "until wants a date"),
        ("/v1/history/0", "id"),
        ("/v1/history/99999999999999999999", "id"),
        ("/v1/pictures/..%2f..%2fetc", "nothing here"),
        ("/v1/pictures/ABC", "digest"),
        ("/v1/recalibration", "detector"),
    ],
)
def test_questions_are_checked(refusing: Running, path: str, says: str) -> None:
    answer = refusing[0].get(path)
    assert says in refusal(answer, 404 if "nothing" in says else 422)


def test_a_person_is_right(running: Running) -> None:
    client, _ = running
    [row] = detect(client, photo(4))
    answer = client.post("/v1/feedback", json={"id": row["id"], "label": "good", "note": "<b>dust</b>"})
    assert answer.json()["label"] == "good"
    assert answer.json()["note"] == "<b>dust</b>"
    assert client.get("/v1/history?verdict=corrected").json()["total"] == 1
    assert client.get("/v1/history?text=DUST").json()["total"] == 1
    refusal(client.post("/v1/feedback", json={"id": 77, "label": "good"}), 404)
    for bad in (
        {"id": "1", "label": "good"},
        {"id": 1, "label": "bad"},
        {"id": 1},
        {"id": 1, "label": None, "x": 1},
    ):
        refusal(client.post("/v1/feedback", json=bad), 422)
    for broken, status, says in (
        (
            b"{",
            400,
            "JSON cannot be read (Expecting property name enclosed in double quotes, at character 2)",
        ),
        (b"\xff{", 400, "cannot be read as JSON in UTF-8"),
        (b"", 422, "send a JSON object"),
        (b"[1]", 422, "send a JSON object"),
    ):
        answer = client.post("/v1/feedback", content=broken, headers={"Content-Type": "application/json"})
        assert says in refusal(answer, status)
    assert "'Content-Type: application/json'" in refusal(client.post("/v1/feedback", data={"id": 1}), 422)
    assert client.post("/v1/feedback", json={"id": row["id"], "label": None}).json()["corrected_at"] is None


def test_the_history_as_a_table(running: Running) -> None:
    client, _ = running
    client.post(
        "/v1/detect", files=[("files", ("=1+1.png", photo(4))), ("files", ("b\u00e4r.png", photo(-4)))]
    )
    answer = client.get("/v1/history.csv?order=oldest")
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert [row["name"] for row in rows] == ["./=1+1.png", "b\u00e4r.png"]
    assert [row["verdict"] for row in rows] == ["flawed", "good"]
    assert [float(row["logit"]) for row in rows] == [4, -4]
    assert client.get("/v1/history.csv?text=nothing").text.count("\n") == 1


# The line


def test_all_places_of_a_request_are_taken_or_none(tmp_path: Path) -> None:
    with serving(tmp_path, settings=Settings(places=4)) as (client, service):
        red(service).pause.clear()
        found: list[Any] = []
        send = lambda: found.append(client.post("/v1/detect", files=files(photo(1), photo(2), photo(3))))  # noqa: E731
        first = threading.Thread(target=send)
        first.start()
        wait_for(lambda: service.line.waiting == 3)
        answer = client.post("/v1/detect", files=files(photo(4), photo(5)))
        assert "send again in" in refusal(answer, 429)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
        assert service.line.waiting == 3
        assert client.get("/v1/status").json()["queue"] == {"waiting": 3, "places": 4}
        red(service).pause.set()
        first.join()
        assert found[0].status_code == 200
        wait_for(lambda: service.line.waiting == 0)
        assert "at most 4 pictures" in refusal(client.post("/v1/detect", files=files(*[photo()] * 5)), 413)
        assert len(detect(client, *[photo()] * 4)) == 4


def test_bytes_are_bounded_too(tmp_path: Path) -> None:
    with serving(tmp_path, settings=Settings(largest=20_000)) as (client, service):
        with pytest.raises(FullError):
            service.line.reserve([15_000, 6_000])
        service.line.reserve([15_000])
        service.line.cancel([15_000])
        assert len(detect(client, photo())) == 1


def test_pictures_are_judged_in_batches(running: Running) -> None:
    client, service = running
    detect(client, *[photo(n / 8) for n in range(20)])
    assert red(service).batches[1:] == [8, 8, 4]  # the first one warmed it up


def test_detectors_take_turns(tmp_path: Path) -> None:
    with serving(tmp_path, detectors=("red", "blue")) as (client, service):
        told = refusal(client.post("/v1/detect", files=files(photo())), 422)
        assert "say which detector, in the address: ?detector=red or ?detector=blue" in told
        red(service).pause.clear()
        threads = [
            threading.Thread(
                target=client.post,
                args=("/v1/detect",),
                kwargs={"files": files(*some), "params": {"detector": who}},
            )
            for who, some in (("red", [photo()] * 16), ("blue", [photo()] * 2), ("red", [photo()] * 16))
        ]
        for thread, waiting in zip(threads, (16, 18, 34), strict=True):
            thread.start()
            wait_for(lambda waiting=waiting: service.line.waiting == waiting)  # type: ignore[misc]
        red(service).pause.set()
        for thread in threads:
            thread.join()
        rows = client.get("/v1/history?order=oldest").json()["rows"]
        places = [place for place, row in enumerate(rows) if row["detector"] == "blue"]
        assert places[0] < 20  # before the second request of the other


def test_a_fault_of_the_detector_hurts_only_those_who_wait(running: Running) -> None:
    client, service = running
    red(service).fault = RuntimeError("secret inside")
    client = TestClient(client.app, base_url=str(client.base_url), raise_server_exceptions=False)
    answer = client.post("/v1/detect", files=files(photo(1)))
    assert "secret" not in refusal(answer, 500)
    red(service).fault = None
    assert len(detect(client, photo(1))) == 1
    assert service.line.waiting == 0


def test_a_history_that_cannot_be_written_is_a_503(running: Running, tmp_path: Path) -> None:
    client, service = running
    detect(client, photo(1))
    moved = tmp_path / "away"
    (tmp_path / "history").rename(moved)
    answer = client.post("/v1/detect", files=files(photo(2)))
    assert "the history 'history.sqlite' has gone" in refusal(answer, 503)  # and not where it was
    assert answer.headers["retry-after"]
    refusal(client.get("/v1/history"), 503)
    refusal(client.get("/v1/history.csv"), 503)
    refusal(client.get("/v1/status"), 503)
    assert client.get("/metrics").status_code == 200
    for path in ("/v2/health/ready", "/v2/models/red/ready"):
        answer = client.get(path)
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
    assert client.get("/v2/health/live").status_code == 200
    moved.rename(tmp_path / "history")
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v1/history").json()["total"] == 1
    assert service.line.waiting == 0


def test_a_full_disk_for_pictures_is_a_503(running: Running, tmp_path: Path) -> None:
    client, _ = running
    (tmp_path / "pictures").write_bytes(b"in the way")
    assert "pictures cannot be kept in 'pictures'" in refusal(
        client.post("/v1/detect", files=files(photo(2))), 503
    )
    assert client.get("/v1/history").json()["total"] == 0
    assert client.get("/v2/health/ready").status_code == 503
    (tmp_path / "pictures").unlink()
    assert client.get("/v2/health/ready").status_code == 200
    assert len(detect(client, photo(2))) == 1


# Detectors


def test_a_calibration_that_changes_is_taken_up(running: Running, tmp_path: Path) -> None:
    client, service = running
    before = client.get("/v1/detectors").json()[0]
    assert before["threshold"] == pytest.approx(GOOD[-1])
    assert before["promise"].startswith("Threshold from 20 good photos")
    assert len(before["good_logits"]) == 20
    write_calibration(tmp_path / "red", calibration_of([[n - 9 for n in GOOD], ()], GOOD))
    wait_for(lambda: client.get("/v1/detectors").json()[0]["threshold"] < before["threshold"] - 5)
    assert client.get("/v1/detectors").json()[0]["fingerprint"] == before["fingerprint"]
    (tmp_path / "red" / "calibration.json").write_text("{}")
    wait_for(lambda: client.get("/v1/status").json()["warnings"])
    [warning] = client.get("/v1/status").json()["warnings"]
    assert warning["detector"] == "red"
    assert "goes on as it was" in warning["text"]
    assert len(detect(client, photo())) == 1
    (tmp_path / "red" / "calibration.json").unlink()
    wait_for(lambda: client.get("/v1/detectors").json()[0]["threshold"] is None)
    assert client.get("/v1/status").json()["warnings"] == []
    assert detect(client, photo())[0]["anomalous"] is None
    assert service.detectors.names == ["red"]


def test_detectors_are_named_by_their_folders_or_as_said() -> None:
    assert names_of(["a/b", "other=a/b", "x/y=z"]) == {
        "b": Path("a/b"),
        "other": Path("a/b"),
        "y=z": Path("x/y=z"),
    }
    with pytest.raises(UsageError, match="two detectors would be called 'b'"):
        names_of(["a/b", "c/b"])
    with pytest.raises(UsageError, match=r"two .* be called 'a'; name one: OTHER=d/mine$"):
        names_of(["a=b", "a=d/mine"])
    with pytest.raises(UsageError, match="FOLDER or NAME=FOLDER"):
        names_of(["=x"])


def test_drift_is_told(running: Running) -> None:
    client, service = running
    detect(client, *[photo(3, seed=n) for n in range(20)])
    [warning] = client.get("/v1/status").json()["warnings"]
    assert "unlike the good photos" in warning["text"]
    assert 'zeroflaw_drift{detector="red"} 1.0' in client.get("/metrics").text
    detect(client, *[photo(-3.5, seed=n) for n in range(50)])
    assert client.get("/v1/status").json()["warnings"] == []
    assert service.detectors.get("red").alarm() is None


# Events


def test_events_tell_what_happens(running: Running, tmp_path: Path) -> None:
    client, service = running
    detect(client, photo(1))
    heard: list[dict[str, Any]] = []

    async def listen() -> None:
        async for event in service.events.listen():
            told = {"event": event["event"], **json.loads(event["data"])}
            heard.append(told)

    portal = client.portal
    assert portal is not None
    listening = portal.start_task_soon(listen)
    wait_for(lambda: service.events._listeners)
    [row] = detect(client, photo(2))
    wait_for(lambda: len(heard) == 1)
    client.post("/v1/feedback", json={"id": row["id"], "label": "flawed"})
    wait_for(lambda: len(heard) == 2)
    detect(client, *[photo(3, seed=n) for n in range(20)])
    wait_for(lambda: "warning" in [one["event"] for one in heard])
    (tmp_path / "red" / "calibration.json").unlink()
    wait_for(lambda: heard[-1]["event"] == "detector")
    assert heard[0] == {"event": "verdict", **row}
    assert heard[1]["event"] == "feedback"
    assert heard[1]["label"] == "flawed"
    assert sum(one["event"] == "verdict" for one in heard) == 21
    portal.call(service.end_lines)
    listening.result(timeout=5)
    assert "about to end" in refusal(client.get("/v1/events"), 503)


# The other protocols


def test_kserve(running: Running) -> None:
    client, _ = running
    assert client.get("/v2").json()["name"] == "zeroflaw"
    assert client.get("/v2/health/live").status_code == 200
    assert client.get("/v2/health/ready").json() == {"ready": True}
    assert client.get("/v2/models/red/ready").json() == {"name": "red", "ready": True}
    assert client.get("/v2/models/red").json()["inputs"][0]["datatype"] == "BYTES"
    refusal(client.get("/v2/models/blue"), 404)
    data = [base64.b64encode(photo(redness)).decode() for redness in (-4, 4)]
    tensor = {"name": "images", "shape": [2], "datatype": "BYTES", "data": data}
    answer = client.post("/v2/models/red/infer", json={"id": "7", "inputs": [tensor]}).json()
    found = {output["name"]: output["data"] for output in answer["outputs"]}
    assert answer["id"] == "7"
    assert found == {"logit": [-4, 4], "score": found["score"], "anomalous": [0, 1], "id": [1, 2]}
    for wrong, status in (
        ({"shape": [3]}, 422),
        ({"data": ["!!", "x"]}, 422),
        ({"datatype": "FP32"}, 422),
        ({"data": ["eA==", "eA=="]}, 415),
    ):
        refusal(client.post("/v2/models/red/infer", json={"inputs": [tensor | wrong]}), status)


def test_metrics_have_few_series(running: Running) -> None:
    client, _ = running
    detect(client, photo(1))
    for number in range(50):
        client.get(f"/made/up/{number}")
        client.get(f"/v1/history/{number}")
        client.request(f"X{number}", "/")
    text = client.get("/metrics").text
    assert 'zeroflaw_verdicts_total{detector="red",verdict="anomalous"} 1.0' in text
    assert 'route="/v1/history/{id}"' in text
    assert "/made/up" not in text
    assert "X49" not in text
    assert len(text.splitlines()) < 200


def test_the_service_describes_itself(running: Running) -> None:
    client, _ = running
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) >= {"/v1/detect", "/v1/history", "/v1/feedback", "/v1/events"}
    assert client.get("/docs").status_code == 404
    status = client.get("/v1/status").json()
    assert status["offline"] is True
    assert status["disk"] == {"bytes": 0, "limit": None}


def test_a_service_that_ends_answers_what_it_has_begun(tmp_path: Path) -> None:
    with serving(tmp_path) as (client, service):
        red(service).pause.clear()
        found: list[Any] = []
        sender = threading.Thread(
            target=lambda: found.append(client.post("/v1/detect", files=files(photo(1))))
        )
        sender.start()
        wait_for(lambda: service.line.waiting == 1)
        closer = threading.Thread(target=service.line.close)
        closer.start()
        time.sleep(0.05)
        assert "about to end" in refusal(client.post("/v1/detect", files=files(photo(2))), 503)
        assert client.get("/v2/health/ready").status_code == 503
        red(service).pause.set()
        sender.join()
        closer.join()
        assert found[0].status_code == 200


def test_a_place_that_was_taken_before_the_end_is_served(running: Running) -> None:
    _, service = running
    service.line.reserve([1, len(photo())])
    closer = threading.Thread(target=service.line.close)
    closer.start()
    time.sleep(0.05)
    assert closer.is_alive()  # it waits for what may still come
    ticket = Ticket("red", "late.png", photo(2), "0" * 64, "http", "late")
    service.line.put([ticket])
    assert ticket.answer.result(timeout=10).logit == 2
    service.line.cancel([1])
    closer.join(timeout=10)
    assert not closer.is_alive()


def test_a_detector_without_threshold_ranks(tmp_path: Path) -> None:
    with serving(tmp_path, good=()) as (client, _):
        [row] = detect(client, photo(2))
        assert (row["anomalous"], row["threshold"], row["regions"]) == (None, None, None)
        assert client.get(row["map"]).status_code == 200
        assert client.get("/v1/history?verdict=none").json()["total"] == 1


# A new threshold


def label(client: TestClient, row: dict[str, Any], said: str) -> None:
    assert client.post("/v1/feedback", json={"id": row["id"], "label": said}).status_code == 200


def proposal(client: TestClient) -> dict[str, Any]:
    answer = client.get("/v1/recalibration?detector=red")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_nothing_is_proposed_without_labels(running: Running) -> None:
    client, _ = running
    found = proposal(client)
    assert found["possible"] is False
    assert found["why_not"].startswith("No photo was labelled")
    assert "No photo" in refusal(client.post("/v1/recalibration", json={"detector": "red"}), 409)
    refusal(client.get("/v1/recalibration?detector=no"), 404)


def test_false_alarms_that_people_correct_raise_the_threshold(running: Running, tmp_path: Path) -> None:
    client, _ = running
    before = client.get("/v1/detectors").json()[0]["threshold"]
    rows = detect(client, *[photo(-1 + n / 16, seed=n) for n in range(6)])
    assert all(row["anomalous"] for row in rows)
    for row in rows:
        label(client, row, "good")
    found = proposal(client)
    assert found["labelled"] == {"good": 6, "flawed": 0}
    assert found["now"]["false_alarms"] == 1.0
    assert found["now"]["recall"] is None
    assert before < found["proposed"]["threshold"] < 0
    assert found["proposed"]["false_alarms"] < 0.5
    assert found["changes"]["count"] >= 4
    assert proposal(client) == found  # nothing changes by itself
    assert client.get("/v1/detectors").json()[0]["threshold"] == before
    answer = client.post("/v1/recalibration", json={"detector": "red"}).json()
    assert answer["threshold"] == found["proposed"]["threshold"]
    assert answer["promise"].startswith("Threshold from 26 good photos")
    kept = read_folder(tmp_path / "red").calibration
    assert kept is not None
    assert kept.threshold == answer["threshold"]
    assert kept.map_threshold is not None
    again = proposal(client)  # what took part is not counted twice
    assert again["proposed"]["threshold"] == answer["threshold"]
    assert again["changes"]["count"] == 0
    assert detect(client, photo(-1))[0]["threshold"] == answer["threshold"]


def test_flaws_that_people_found_take_part(running: Running) -> None:
    client, _ = running
    good = detect(client, *[photo(-1 + n / 16, seed=n) for n in range(5)])
    flawed = detect(client, *[photo(1 + n / 16, seed=n) for n in range(5)])
    for row in good:
        label(client, row, "good")
    for row in flawed:
        label(client, row, "flawed")
    found = proposal(client)
    assert found["labelled"] == {"good": 5, "flawed": 5}
    assert -0.75 < found["proposed"]["threshold"] < 1
    assert (found["proposed"]["false_alarms"], found["proposed"]["recall"]) == (0, 1)
    assert "Youden" in found["proposed"]["promise"]
    label(client, good[0], "flawed")  # the last word counts
    assert proposal(client)["labelled"] == {"good": 4, "flawed": 6}


def test_photos_of_another_detector_are_judged_again(running: Running, tmp_path: Path) -> None:
    client, service = running
    for row in detect(client, *[photo(-1 + n / 16, seed=n) for n in range(5)]):
        label(client, row, "good")
    service.detectors.get("red").fingerprint = "another"
    assert proposal(client)["labelled"]["good"] == 5
    service.store.remove(client.get("/v1/history/1").json()["digest"])
    assert proposal(client)["labelled"]["good"] == 4


def test_a_first_threshold_comes_with_all_that_belongs_to_it(tmp_path: Path) -> None:
    with serving(tmp_path, good=()) as (client, _):
        rows = detect(client, *[photo(-2 + n / 4, seed=n) for n in range(6)])
        label(client, rows[0], "good")
        assert "at least 4 good photos" in proposal(client)["why_not"]
        for row in rows:
            label(client, row, "good")
        assert proposal(client)["now"] is None
        client.post("/v1/recalibration", json={"detector": "red"})
        kept = read_folder(tmp_path / "red").calibration
        assert kept is not None
        assert kept.map_threshold is not None
        assert kept.photos is not None
        assert len(kept.good) == 6


def test_photos_that_a_detector_was_made_from_say_nothing(tmp_path: Path) -> None:
    seen = hashlib.sha256(read_image(photo(-1)).tobytes()).hexdigest()
    save_redness(
        tmp_path / "red", GOOD, seen=Seen(reference=ReferenceSeen(images=1, sha256_of_pixels=(seen,)))
    )
    with serving(tmp_path) as (client, _):
        [own] = detect(client, photo(-1))
        label(client, own, "good")
        assert "the detector was made from them" in proposal(client)["why_not"]
        label(client, *detect(client, photo(-1, seed=1)), "good")
        assert proposal(client)["labelled"]["good"] == 1
