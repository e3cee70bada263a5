"""What name servers answer."""

from __future__ import annotations

import random
from collections.abc import Hashable
from typing import Any, cast

import dns.exception
import dns.message
import dns.rdatatype
import dns.rrset

from mta.errors import NetworkError, RouteError
from mta.routing.dnsquery import make_question, read_answer
from mta.routing.mx import exchange_levels, is_forbidden, limited
from mta.routing.resolver import Answer, Resolver, Status
from tests.fuzz.target import Target, sentence
from tests.support.steploop import StepLoop

__all__ = ["TARGETS"]

NAME = "example.com"


class ReadingResolver(Resolver):
    """Asks nobody: the answer to every question is the packet it was given."""

    def __init__(self, packet: bytes) -> None:
        super().__init__([("192.0.2.53", 53)], clock=cast(Any, StepLoop()))
        self._packet = packet

    async def _ask_servers(self, name: str, rdtype: dns.rdatatype.RdataType) -> dns.message.QueryMessage:
        question = make_question(name, rdtype, 0)
        question.id = int.from_bytes(self._packet[:2].ljust(2, b"\0"), "big")
        try:
            answer = read_answer(question, self._packet)
        except (dns.exception.DNSException, ValueError) as error:
            raise NetworkError("unreadable") from error
        if answer is None:
            raise NetworkError("another question")
        return answer


def follow(packet: bytes, rdtype: dns.rdatatype.RdataType) -> Answer | str:
    coroutine = ReadingResolver(packet)._follow(NAME, rdtype)
    try:
        coroutine.send(None)
    except StopIteration as end:
        return cast(Answer, end.value)
    except (NetworkError, ValueError) as error:
        return type(error).__name__
    raise AssertionError("it waits")


def run_dns(data: bytes) -> Hashable:
    shape: list[object] = []
    for rdtype in (dns.rdatatype.MX, dns.rdatatype.A, dns.rdatatype.AAAA):
        answer = follow(data, rdtype)
        if isinstance(answer, str):
            shape.append(answer)
            continue
        shape.append((answer.status, len(answer.mx), len(answer.addresses)))
        assert answer.status in Status
        assert all(text.isprintable() for text in (answer.text,)), answer.text
        for ip in answer.addresses:
            is_forbidden(ip)
        try:
            levels = exchange_levels(NAME, answer.mx, random.Random(1))
        except RouteError as error:
            sentence(error)
            continue
        assert sum(map(len, limited(levels))) <= 20
        for host in (host for level in levels for host in level):
            assert not set(host) & set("\r\n\0 "), host
    return tuple(shape)


def packet(*records: str, rdtype: str = "MX", rcode: int = 0) -> bytes:
    question = dns.message.make_query(NAME, rdtype, use_edns=False)
    question.id = 7
    answer = dns.message.make_response(question)
    answer.set_rcode(cast(Any, rcode))
    for record in records:
        name, kind, *rest = record.split(" ", 2)
        answer.answer.append(dns.rrset.from_text(name, 300, "IN", kind, *rest))
    return answer.to_wire()


TARGETS = (
    Target(
        "dns",
        run_dns,
        (
            packet("example.com. MX 10 mx.example.com.", "example.com. MX 20 mx2.example.com."),
            packet("example.com. MX 0 ."),
            packet(
                "example.com. CNAME a.example.",
                "a.example. CNAME b.example.",
                "b.example. MX 5 mx.b.example.",
            ),
            packet("example.com. A 192.0.2.1", rdtype="A"),
            packet("example.com. AAAA 2001:db8::1", rdtype="AAAA"),
            packet(rcode=3),
            packet(rcode=2),
        ),
        (b"\xc0\x0c", b"\x00\x0f\x00\x01", b"\x00\x05\x00\x01", b"\x07example\x03com\x00"),
        600,
    ),
)
