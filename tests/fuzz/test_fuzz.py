"""A few hundred changed inputs at every door; `fuzz.py` goes on for hours."""

from __future__ import annotations

import pytest

from .fuzz import TARGETS, fuzz

RUNS = {"weights": 15}  # each opens megabytes


@pytest.mark.parametrize("name", TARGETS)
def test_changed_inputs_are_taken_or_refused_in_words(name: str) -> None:
    done, wrongs = fuzz(name, seed=7, runs=RUNS.get(name, 150))
    assert not wrongs, "\n".join(wrongs)
    assert done >= RUNS.get(name, 150)
