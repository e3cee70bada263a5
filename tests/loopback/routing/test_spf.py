"""SPF against a name server on this machine: the records people publish, and the errors they make."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from mta.cli.main import main
from mta.clock import SystemClock
from mta.routing.resolver import Resolver
from mta.routing.spf import SpfResult, check_spf
from mta.sink.nameserver import Nameserver
from mta.sink.zone import Zone

RECORDS = {
    "plain.example": 'TXT "v=spf1 ip4:192.0.2.0/24 ip6:2001:db8::/32 -all"',
    "long.example": 'TXT "v=spf1 ip4:192.0.2" ".1 ~all"',
    "a.example": ['TXT "v=spf1 a/31 ?all"', "A 192.0.2.10"],
    "mx.example": ['TXT "v=spf1 mx:plain-mx.example -all"'],
    "plain-mx.example": "MX 10 a.example",
    "include.example": 'TXT "v=spf1 include:plain.example -all"',
    "redirect.example": 'TXT "v=spf1 redirect=plain.example"',
    "macro.example": 'TXT "v=spf1 exists:%{ir}.%{l1r-}.%{d2} -all"',
    "9.2.0.192.jo.macro.example": "A 127.0.0.2",
    "open.example": 'TXT "v=spf1 ip4:198.51.100.1"',
    "two.example": ['TXT "v=spf1 -all"', 'TXT "v=spf1 +all"'],
    "wrong.example": 'TXT "v=spf1 ipv4:192.0.2.1 -all"',
    "loop.example": 'TXT "v=spf1 include:loop.example -all"',
    "void.example": 'TXT "v=spf1 a:x1.example a:x2.example a:x3.example -all"',
    "broken.example": "SERVFAIL",
    "lost.example": 'TXT "v=spf1 include:nothing.example -all"',
    "slash.example": 'TXT "v=spf1 a/33 -all"',
    "zero.example": 'TXT "v=spf1 ip4:192.0.2.0/024 -all"',
    "tab.example": r'TXT "v=spf1 ip4:192.0.2.9\009-all"',
    "eight-bit.example": r'TXT "v=spf1 exists:m\252.example -all"',
    "top.example": 'TXT "v=spf1 a:mail.1 -all"',
    "percent.example": 'TXT "v=spf1 exists:%(ir).example ?all"',
    "letter.example": 'TXT "v=spf1 exists:%{e}.example ?all"',
    "nowhere.example": 'TXT "v=spf1 redirect= ?all"',
    "dotted.example": 'TXT "v=spf1 redirect=plain.example."',
    "ptr.example": 'TXT "v=spf1 ptr:names.example -all"',
    "11.2.0.192.in-addr.arpa": "PTR host.names.example",
    "host.names.example": "A 192.0.2.11",
    "many.example": ['TXT "v=spf1 mx -all"', *(f"MX 1 m{number}.example" for number in range(11))],
    "deep.example": 'TXT "v=spf1 include:d1.example -all"',
    **{f"d{n}.example": f'TXT "v=spf1 include:d{n + 1}.example -all"' for n in range(1, 11)},
    "d11.example": 'TXT "v=spf1 +all"',
    "long-term.example": f'TXT "v=spf1 a:{"x" * 200}" "{"x" * 200}.example -all"',
}


@pytest.mark.parametrize(
    ("sender", "ip", "result"),
    [
        ("jo@plain.example", "192.0.2.77", "pass"),
        ("jo@plain.example", "2001:db8::77", "pass"),
        ("jo@plain.example", "198.51.100.1", "fail"),
        ("", "192.0.2.77", "pass"),
        ("jo@long.example", "192.0.2.1", "pass"),
        ("jo@long.example", "192.0.2.2", "softfail"),
        ("jo@a.example", "192.0.2.11", "pass"),
        ("jo@a.example", "192.0.2.12", "neutral"),
        ("jo@mx.example", "192.0.2.10", "pass"),
        ("jo@include.example", "192.0.2.77", "pass"),
        ("jo@include.example", "198.51.100.1", "fail"),
        ("jo@redirect.example", "192.0.2.77", "pass"),
        ("jo@macro.example", "192.0.2.9", "pass"),
        ("al@macro.example", "192.0.2.9", "fail"),
        ("jo@open.example", "192.0.2.9", "neutral"),
        ("jo@two.example", "192.0.2.9", "permerror"),
        ("jo@wrong.example", "192.0.2.1", "permerror"),
        ("jo@loop.example", "192.0.2.1", "permerror"),
        ("jo@void.example", "192.0.2.1", "permerror"),
        ("jo@lost.example", "192.0.2.1", "permerror"),
        ("jo@slash.example", "192.0.2.1", "permerror"),
        ("jo@zero.example", "192.0.2.1", "permerror"),
        ("jo@tab.example", "192.0.2.9", "permerror"),
        ("jo@eight-bit.example", "192.0.2.9", "permerror"),
        ("jo@top.example", "192.0.2.9", "permerror"),
        ("jo@percent.example", "192.0.2.9", "permerror"),
        ("jo@letter.example", "192.0.2.9", "permerror"),
        ("jo@nowhere.example", "192.0.2.9", "permerror"),
        ("jo@dotted.example", "192.0.2.9", "pass"),
        ("jo@ptr.example", "192.0.2.11", "pass"),
        ("jo@ptr.example", "192.0.2.12", "fail"),
        ("jo@many.example", "192.0.2.1", "permerror"),
        ("jo@deep.example", "192.0.2.1", "permerror"),
        ("jo@d2.example", "192.0.2.1", "pass"),
        ("jo@long-term.example", "192.0.2.1", "permerror"),
        ("jo@broken.example", "192.0.2.1", "temperror"),
        ("jo@nobody.example", "192.0.2.1", "none"),
        ("jo@localhost", "192.0.2.1", "none"),
    ],
)
async def test_result_is_what_the_record_says(sender: str, ip: str, result: str) -> None:
    nameserver = Nameserver(Zone.from_dict(RECORDS))
    await nameserver.start()
    try:
        resolver = Resolver([nameserver.address], clock=SystemClock())
        found = await check_spf(resolver, ip, "plain.example", sender)
    finally:
        nameserver.close()

    assert found.result.value == result, found.text


async def test_check_that_takes_too_long_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mta.routing.spf.SECONDS", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        resolver = Resolver([silent.getsockname()], clock=SystemClock())
        found = await asyncio.wait_for(check_spf(resolver, "192.0.2.1", "plain.example"), 10)

    assert found.result is SpfResult.TEMPERROR
    assert "0 s" in found.text


async def test_nothing_is_asked_twice_in_one_check() -> None:
    nameserver = Nameserver(Zone.from_dict(RECORDS))
    await nameserver.start()
    try:
        resolver = Resolver([nameserver.address], clock=SystemClock())
        await check_spf(resolver, "192.0.2.10", "plain.example", "jo@mx.example")
    finally:
        nameserver.close()

    assert resolver.stats.questions == 3
    assert resolver.stats.hits == 0


async def test_what_is_no_address_is_refused() -> None:
    resolver = Resolver([("127.0.0.1", 1)], clock=SystemClock())

    with pytest.raises(ValueError, match="not an IP address"):
        await check_spf(resolver, "nowhere", "plain.example")


async def test_operator_asks_with_the_name_servers_of_the_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nameserver = Nameserver(Zone.from_dict(RECORDS))
    await nameserver.start()
    host, port = nameserver.address
    file = tmp_path / "mta.conf"
    file.write_text(f"name-server {host}:{port}\nspool {tmp_path}\n")
    ask = ["check", "spf", "192.0.2.77", "plain.example"]
    code = await asyncio.to_thread(main, ["--config", str(file), *ask])
    refused = await asyncio.to_thread(main, ["--config", str(file), "--dom", *ask, "jo@macro.example"])
    nameserver.close()

    assert (code, refused) == (0, 65)
    said = capsys.readouterr().out
    assert "pass: ip4:192.0.2.0/24 of plain.example" in said
    assert 'spf.result="fail"' in said
