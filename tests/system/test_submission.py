"""The whole service does at submission and delivery what its configuration wants: merges, lists, copies."""

from __future__ import annotations

from pathlib import Path

from mta.sink.receiver import ReceiverOptions
from tests.support.inbound import Caller
from tests.support.service import World

EXTRA = """
pickup {0}/pickup {0}/bad
<address-list nobody>
address gone@example.com
</address-list>
<source 127.0.0.1>
    allow-mailmerge yes
    accept-invalid-recipients yes
    suppression-lists nobody
    default-virtual-mta warm
</source>
<virtual-mta warm>
    cold-virtual-mta cold
    <domain cold.example>
        max-cold-virtual-mta-msg 1/day
    </domain>
    <domain filed.example>
        type file
        file-destination {0}/filed/$user
    </domain>
</virtual-mta>
<virtual-mta cold>
</virtual-mta>
<domain example.com>
    remove-header X-Secret
    bcc-upon-delivery copy@example.net
</domain>
"""


async def test_what_the_configuration_wants_happens(tmp_path: Path) -> None:
    (tmp_path / "pickup").mkdir()
    (tmp_path / "bad").mkdir()
    world = World(
        tmp_path,
        extra=EXTRA.format(tmp_path),
        domains=("example.com", "example.net", "cold.example"),
        options=ReceiverOptions(),
    )
    async with world:
        async with Caller(world.port) as caller:
            await caller.hello()
            await caller.ask(
                "XMRG FROM:<news@example.org> VERP", "XDFN name=Ann", "RCPT TO:<ann@example.com>"
            )
            await caller.ask("XDFN name=Bob", "RCPT TO:<bob@example.com>", "RCPT TO:<gone@example.com>")
            await caller.ask("RCPT TO:<bad bad>", "XPRT 1 LAST")
            caller.send(b"X-Secret: 1\r\nSubject: for [name]\r\n\r\nDear [name],\r\n.\r\n")
            assert (await caller.reply()).startswith("250")
            for _ in range(2):
                await caller.ask("MAIL FROM:<a@example.org>", "RCPT TO:<c@cold.example>")
                await caller.content(b"Subject: cold\r\n\r\nhi\r\n")
            await caller.ask("MAIL FROM:<a@example.org>", "RCPT TO:<d@filed.example>")
            await caller.content(b"Subject: file\r\n\r\nhi\r\n")
        waiting = tmp_path / "pickup" / "one.tmp"
        waiting.write_text("x-sender: a@example.org\nx-receiver: picked@example.net\nSubject: p\n\nhi\n")
        waiting.rename(tmp_path / "pickup" / "one")
        await world.until(lambda: sum(world.received.values()) == 7)
        await world.until(lambda: len(world.records("d", "b")) >= 10)

        assert world.received == {
            "ann@example.com": 1,
            "bob@example.com": 1,
            "copy@example.net": 2,
            "c@cold.example": 2,
            "picked@example.net": 1,
        }
        merged = {one.recipients[0]: one for one in world.deliveries if one.recipients[0] in world.received}
        ann = merged["ann@example.com"]
        assert ann.sender == "news-ann=example.com@example.org"
        assert b"Subject: for Ann\r\n\r\nDear Ann,\r\n" in ann.data
        assert b"X-Secret" not in ann.data
        bounced = {row["rcpt"]: row["dsnStatus"][:5] for row in world.records("b")}
        assert bounced["gone@example.com"] == "5.7.1"
        assert bounced["bad bad"] == "5.1.3"
        assert sorted(row["vmta"] for row in world.records("d") if "cold.example" in row["rcpt"]) == [
            "cold",
            "warm",
        ]
        (filed,) = [row for row in world.records("d") if row["rcpt"] == "d@filed.example"]
        assert filed["dlvType"] == "file"
        assert (tmp_path / "filed" / "d").read_text().endswith("Subject: file\n\nhi\n")
        assert list((tmp_path / "pickup").iterdir()) == []
        assert await world.stop() == 0
