"""The test name server over real sockets, asked by dnspython."""

from __future__ import annotations

import asyncio
import socket

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import pytest

from mta.errors import ConfigError
from mta.sink.nameserver import Nameserver
from mta.sink.zone import Zone

pytestmark = pytest.mark.both_loops

TEXT = """
; a zone with one of everything
example.com          MX    20 mx2.example.com
example.com          MX    10 mx1.example.com
example.com          TXT   "v=spf1 -all"
mx1.example.com  60  A     127.0.0.2
mx1.example.com      AAAA  ::1
nomail.example       MX    0 .
alias.example        CNAME example.com
loop.example         CNAME loop.example
*.load.example       MX    10 mx1.example.com   # below it, anything
broken.example       SERVFAIL
refused.example      REFUSED
gone.example         NXDOMAIN
silent.example       TIMEOUT
big.example          TRUNCATE
big.example          MX    10 mx1.example.com
"""


async def ask(
    server: Nameserver, name: str, kind: str, *, tcp: bool = False, timeout: float = 5.0
) -> dns.message.Message:
    """One question the way a stub resolver puts it."""
    host, port = server.address
    query = dns.message.make_query(name, kind)
    put = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await put(query, host, timeout=timeout, port=port)


def texts(response: dns.message.Message) -> list[str]:
    return sorted(str(data) for rrset in response.answer for data in rrset)


async def test_all_records_of_the_type_are_answered_with_authority() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        response = await ask(server, "example.com", "MX")

    assert texts(response) == ["10 mx1.example.com.", "20 mx2.example.com."]
    assert response.flags & dns.flags.AA
    assert [tuple(query) for query in server.queries] == [("example.com", "MX", "udp")]


async def test_names_are_compared_without_regard_to_case_and_ttl_is_kept() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        response = await ask(server, "MX1.Example.COM", "A")

    assert texts(response) == ["127.0.0.2"]
    assert response.answer[0].ttl == 60


async def test_address_of_version_six_and_text_are_served() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        assert texts(await ask(server, "mx1.example.com", "AAAA")) == ["::1"]
        assert texts(await ask(server, "example.com", "TXT")) == ['"v=spf1 -all"']


async def test_null_mx_is_a_single_dot() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        assert texts(await ask(server, "nomail.example", "MX")) == ["0 ."]


async def test_unknown_name_does_not_exist_and_says_how_long() -> None:
    async with Nameserver(Zone.from_text(TEXT), negative_ttl=7) as server:
        response = await ask(server, "nobody.invalid", "MX")

    assert response.rcode() == dns.rcode.NXDOMAIN
    assert response.authority[0].rdtype == dns.rdatatype.SOA
    assert response.authority[0].ttl == 7


@pytest.mark.parametrize("name", ["mx1.example.com", "load.example"])
async def test_name_without_the_type_exists_but_has_no_data(name: str) -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        response = await ask(server, name, "MX")

    assert response.rcode() == dns.rcode.NOERROR
    assert texts(response) == []


async def test_wildcard_answers_for_any_name_below_it() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        response = await ask(server, "d17.load.example", "MX")

    assert texts(response) == ["10 mx1.example.com."]
    assert str(response.answer[0].name) == "d17.load.example."


async def test_alias_is_followed_within_the_zone() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        response = await ask(server, "alias.example", "MX")

    assert texts(response) == ["10 mx1.example.com.", "20 mx2.example.com.", "example.com."]


async def test_alias_to_itself_ends() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        response = await ask(server, "loop.example", "MX")

    assert set(texts(response)) == {"loop.example."}


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("broken.example", dns.rcode.SERVFAIL),
        ("refused.example", dns.rcode.REFUSED),
        ("gone.example", dns.rcode.NXDOMAIN),
    ],
)
async def test_behaviours_answer_with_their_code(name: str, code: dns.rcode.Rcode) -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        assert (await ask(server, name, "A")).rcode() == code


async def test_silent_name_is_never_answered() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        with pytest.raises(dns.exception.Timeout):
            await ask(server, "silent.example", "MX", timeout=0.05)

        assert [query.name for query in server.queries] == ["silent.example"]


async def test_truncated_answer_is_complete_over_tcp() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        short = await ask(server, "big.example", "MX")
        whole = await ask(server, "big.example", "MX", tcp=True)

    assert short.flags & dns.flags.TC
    assert texts(short) == []
    assert texts(whole) == ["10 mx1.example.com."]


async def test_answer_too_big_for_udp_is_truncated_by_itself() -> None:
    records = [f"MX {number} mx{number}.a-rather-long-name-{number}.example" for number in range(60)]
    async with Nameserver(Zone.from_dict({"many.example": records})) as server:
        short = await ask(server, "many.example", "MX")
        whole = await ask(server, "many.example", "MX", tcp=True)

    assert short.flags & dns.flags.TC
    assert len(texts(whole)) == 60


async def test_zone_may_change_while_the_server_runs() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        server.zone.remove("gone.example")
        server.zone.add("gone.example", "A 127.0.0.9")

        assert texts(await ask(server, "gone.example", "A")) == ["127.0.0.9"]


async def test_delay_holds_every_answer_back() -> None:
    async with Nameserver(Zone.from_text(TEXT), delay=0.05) as server:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await ask(server, "example.com", "MX")
        await ask(server, "example.com", "MX", tcp=True)

        assert loop.time() - begun >= 0.09


async def test_garbage_is_ignored_and_the_next_question_answered() -> None:
    async with Nameserver(Zone.from_text(TEXT)) as server:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.sendto(b"\x00garbage", server.address)

        assert len(texts(await ask(server, "example.com", "MX"))) == 2


@pytest.mark.parametrize(
    "line", ["example.com", "example.com NOSUCHTYPE x", "example.com A not-an-address", "a..b A 127.0.0.1"]
)
def test_line_that_is_no_record_is_named(line: str) -> None:
    with pytest.raises(ConfigError, match="zone line 2"):
        Zone.from_text(f"ok.example A 127.0.0.1\n{line}\n")


def test_dict_takes_one_line_or_many() -> None:
    zone = Zone.from_dict({"a.example": "A 127.0.0.1", "b.example": ["A 127.0.0.1", "30 A 127.0.0.2"]})
    node = zone.find(dns.name.from_text("b.example"))

    assert node is not None
    assert len(node.rrsets[dns.rdatatype.A]) == 2
