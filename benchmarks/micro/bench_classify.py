"""Bounce categories from the default patterns."""

from __future__ import annotations

from collections.abc import Callable

from mta.config.categories import default_categories
from mta.queue.classify import Classifier


def bench_bounce() -> Callable[[], object]:
    """category of a refusal"""
    classifier = Classifier(default_categories())
    reply = "smtp;550 5.1.1 <bob@example.net>: Recipient address rejected: User unknown in local table"
    return lambda: classifier.category("5.1.1", reply)


def bench_success() -> Callable[[], object]:
    """category of a delivery"""
    classifier = Classifier(default_categories())
    return lambda: classifier.category("2.0.0", "smtp;250 2.0.0 Ok: queued as 4XyZ12AbCd")
