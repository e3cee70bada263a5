"""SPF against a name server on this machine: the records people publish, and the errors they make."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from mta.cli.main import main
from mta.clock import SystemClock
from mta.routing.resolver import Resolver
from mta.routing.spf import check_spf
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
