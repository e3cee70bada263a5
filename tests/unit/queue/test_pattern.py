from __future__ import annotations

import pytest

from mta.queue.key import QueueKey
from mta.queue.pattern import QueuePattern


@pytest.mark.parametrize(
    ("pattern", "domain", "vmta"),
    [
        ("a.example/v1", "a.example", "v1"),
        ("A.Example/V1", "a.example", "v1"),
        ("*/v1", "a.example", "v1"),
        ("a.example/*", "a.example", "v9"),
        ("*/*", "b.example", "v2"),
        ("*.example/v1", "a.example", "v1"),
        ("[*.]example.com/v1", "example.com", "v1"),
        ("[*.]example.com/v1", "mail.example.com", "v1"),
        ("a.*/v*", "a.example", "v1"),
        ("a.example", "a.example", "{default}"),
        ("a.example/mtA", "a.example", "MTa"),
    ],
)
def test_queues_that_are_meant(pattern: str, domain: str, vmta: str) -> None:
    assert QueuePattern.parse(pattern).matches(QueueKey(domain, vmta))


@pytest.mark.parametrize(
    ("pattern", "domain", "vmta"),
    [
        ("a.example/v1", "b.example", "v1"),
        ("a.example/v1", "a.example", "v2"),
        ("*.example.com/v1", "example.com", "v1"),
        ("[*.]example.com/v1", "notexample.com", "v1"),
        ("a.example", "a.example", "v1"),
    ],
)
def test_queues_that_are_not_meant(pattern: str, domain: str, vmta: str) -> None:
    assert not QueuePattern.parse(pattern).matches(QueueKey(domain, vmta))


@pytest.mark.parametrize("text", ["", "/", "/v1", "a.example/", "  "])
def test_half_a_name_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a queue name"):
        QueuePattern.parse(text)


def test_a_wider_pattern_covers_a_narrower_one() -> None:
    wide, narrow = QueuePattern.parse("*/v1"), QueuePattern.parse("a.example/v1")
    assert wide.covers(narrow)
    assert not narrow.covers(wide)
    assert str(narrow) == "a.example/v1"
