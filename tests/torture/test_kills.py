"""Twenty kills of real processes, all verbs that write, at random moments: nothing lost, nothing stuck."""

from __future__ import annotations

import sys

import pytest

from .kill import SIGNALS, torture


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_killed_commands_lose_nothing_and_go_on() -> None:
    hit = torture(20, seed=1, chosen=(), say=lambda text: None)
    signals = [hit.get(which.name, 0) for which in SIGNALS]
    assert sum(signals) > 5, f"the kills came too late to test anything: {hit}"
    assert min(signals) > 0, f"a signal never came while a command ran: {hit}"
