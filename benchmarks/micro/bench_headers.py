"""Looking things up in a header block of twelve fields."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.micro.samples import HTML_MESSAGE
from mta.message import headers

BLOCK = HTML_MESSAGE[: headers.header_end(HTML_MESSAGE)]
#: What the way in looks for in every message.
WANTED = (b"x-virtual-mta", b"x-job", b"date", b"message-id", b"x-envid")


def bench_find_end() -> Callable[[], object]:
    """where the header of a 10 KB message ends"""
    return lambda: headers.header_end(HTML_MESSAGE)


def bench_five_lookups() -> Callable[[], object]:
    """five fields looked up in one block, two of them there"""

    def look_up() -> None:
        lowered = BLOCK.lower()
        for name in WANTED:
            headers.find(lowered, name)

    return look_up


def bench_count_received() -> Callable[[], object]:
    """loop detection"""
    return lambda: headers.count_received(BLOCK)


def bench_all_fields() -> Callable[[], object]:
    """every field of a block"""
    return lambda: list(headers.fields(BLOCK))


def bench_remove_absent() -> Callable[[], object]:
    """removing two fields that are not there"""
    return lambda: headers.remove(BLOCK, (b"x-virtual-mta", b"x-job"))


def bench_remove_present() -> Callable[[], object]:
    """removing one field that is there"""
    return lambda: headers.remove(BLOCK, (b"x-mailer",))
