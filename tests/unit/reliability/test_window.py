"""How far the disk is behind the receiver, from samples."""

from __future__ import annotations

import pytest

from tests.reliability.window import lags


def test_an_arrival_is_safe_when_a_sample_first_says_so() -> None:
    samples = [(10.0, 10.01), (10.0, 10.02), (10.03, 10.04), (10.05, 10.06)]

    assert lags([10.0, 10.02, 10.05], samples) == pytest.approx([0.01, 0.02, 0.01])


def test_what_the_samples_do_not_reach_is_left_out() -> None:
    assert lags([11.0], [(10.0, 10.1)]) == []
    assert lags([1.0], []) == []
