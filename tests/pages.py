"""What tests of pages share: where the browser is, and how to wait for what it does in its own time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

CHROMIUM = Path("/usr/bin/chromium")


def until(page: Any, condition: str) -> None:
    """Wait until an expression is true.

    The browser's own way to wait for one needs `eval`, which the policy of the service's page forbids.
    """
    deadline = time.monotonic() + 10
    while not page.evaluate(condition):
        assert time.monotonic() < deadline, condition
        page.wait_for_timeout(20)
