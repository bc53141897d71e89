"""What tests of the service share: verdicts, histories, rows by the thousand."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np

from zeroflaw.runtime.prediction import Prediction
from zeroflaw.serve.records import Verdict


def prediction(logit: float = 0.5, **more: Any) -> Prediction:
    """A prediction with a map, whose threshold is 0."""
    values = {"source": "x.png", "score": 1 / (1 + np.exp(-logit)), "logit": logit, "scores": {"word": 0.5}}
    values |= {"size": (40, 60), "map": np.full((4, 6), 0.25, np.float32)}
    made = Prediction(**{**values, **more})
    return made.with_threshold(0.0, "Threshold from 20 good photos.", p_value=0.05, map_threshold=0.2)


def verdict(key: str = "a", logit: float = 0.5, **more: Any) -> Verdict:
    """A verdict as the service makes it."""
    who = {"detector": "bottle", "fingerprint": "f" * 64, "source": "http", "name": f"{key}.png"}
    digest = hashlib.sha256(key.encode()).hexdigest()
    return Verdict.of(prediction(logit), **{**who, "key": key, "digest": digest, **more})


def fill(file: Path, count: int) -> None:
    """Write rows into the SQLite database of a history, quicker than through the history."""
    random = np.random.default_rng(0)
    logits = random.normal(-2, 2, count)
    record = json.dumps(prediction().to_dict() | {"more": "x" * 300})
    rows = (
        (
            f"2026-{1 + n * 12 // count:02d}-03T04:05:06.{n:06d}Z",
            ("bottle", "nut", "cable")[n % 3],
            f"{n}",
            f"line-{n % 7}/part-{n:06d}.png",
            f"{n % 5000:064x}",
            logits[n],
            logits[n],
            bool(logits[n] > 0) if n % 3 else None,
            '[{"box": [1, 2, 3, 4], "area": 12, "share": 0.5, "peak": 0.9, "peak_at": [1, 2]}]',
            record,
            "2026-05-06T07:08:09.000000Z" if n % 997 == 0 else None,
        )
        for n in range(count)
    )
    names = "time, detector, key, name, digest, logit, rank, anomalous, regions, record, corrected_at"
    fixed = "fingerprint, source, milliseconds, note"
    with sqlite3.connect(file) as connection:
        connection.executemany(
            f"INSERT INTO verdicts ({names}, {fixed}) VALUES ({', '.join('?' * 11)}, 'f', 'http', 3.5, '')",
            rows,
        )
        connection.execute("INSERT INTO pictures SELECT digest, 1000, max(time) FROM verdicts GROUP BY 1")
    connection.close()
