"""What the listener does to mail on its way to the spool: lists, copies, aliases, rewriting, warm-up."""

from __future__ import annotations

from pathlib import Path

import pytest

from mta.message.envelope import Envelope, Notify
from mta.message.personal import personal_envelope
from tests.support.cold_memory import ColdMemory
from tests.support.inbound import OPEN, Inbound

pytestmark = pytest.mark.both_loops

MESSAGE = b"From: Ann <ann@a.example>\r\nX-Secret: 1\r\nSubject: hello\r\n\r\nText.\r\n"


def rcpts(envelope: Envelope) -> list[str]:
    return [recipient.address for recipient in envelope.recipients]


async def send(
    inbound: Inbound, *recipients: str, sender: str = "ann@a.example", content: bytes = MESSAGE
) -> str:
    async with inbound.caller() as caller:
        await caller.hello()
        assert (await caller.ask(f"MAIL FROM:<{sender}>")).startswith("250")
        for recipient in recipients or ("bob@b.example",):
            assert (await caller.ask(f"RCPT TO:<{recipient}>")).startswith("250")
        return await caller.content(content)


async def test_suppressed_recipients_are_refused_at_rcpt(tmp_path: Path) -> None:
    names = tmp_path / "names"
    names.write_text("# people\nOne@b.example\nroot\n\n")
    lists = (
        f"<address-list no>\naddress-file {names}\ndomain gone.example\naddress /^x[0-9]/\n</address-list>"
    )
    async with Inbound(lists, source=f"{OPEN}\nsuppression-lists no") as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("MAIL FROM:<a@example.com>")
        refused = ["one@b.example", "ROOT@any.example", "a@gone.example", "x1@b.example"]

        assert await caller.codes(*(f"RCPT TO:<{name}>" for name in refused)) == ["550 5.7.1"] * 4
        assert await caller.codes("RCPT TO:<two@b.example>") == ["250 2.1.5"]
        assert [event.recipient for event in inbound.partition.events] == refused


async def test_list_that_cannot_be_read_refuses_for_now() -> None:
    lists = "<address-list no>\naddress-file /nowhere/at/all\n</address-list>"
    async with Inbound(lists, source=f"{OPEN}\nsuppression-lists no") as inbound, inbound.caller() as caller:
        await caller.hello()

        assert await caller.codes("MAIL FROM:<a@example.com>", "RCPT TO:<a@b.example>") == [
            "250 2.1.0",
            "451 4.3.5",
        ]


async def test_invalid_and_suppressed_recipients_may_be_taken_in_order_to_bounce() -> None:
    lists = "<address-list no>\naddress bob@b.example\n</address-list>"
    source = f"{OPEN}\nsuppression-lists no\naccept-invalid-recipients yes"
    async with Inbound(lists, source=source) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("MAIL FROM:<a@example.com>")

        assert await caller.codes("RCPT TO:<no at all>", "RCPT TO:<bob@b.example>", "DATA") == [
            "250 2.1.5",
            "250 2.1.5",
            "354",
        ]
        caller.send(MESSAGE + b".\r\n")
        assert (await caller.reply()).startswith("250")
        (envelope,) = inbound.partition.envelopes
        assert [(one.address, one.queue_domain) for one in envelope.recipients] == [
            ("no at all", "{invalid}"),
            ("bob@b.example", "{suppressed}"),
        ]


async def test_bcc_gets_a_copy_that_nobody_hears_of() -> None:
    async with Inbound(source=f"{OPEN}\nbcc archive@c.example") as inbound:
        await send(inbound, "bob@b.example")

        (envelope,) = inbound.partition.envelopes
        assert rcpts(envelope) == ["bob@b.example", "archive@c.example"]
        assert envelope.recipients[1].notify == Notify.NEVER


async def test_aliases_are_expanded_once_each_and_at_home_by_name() -> None:
    text = (
        "alias root ann@c.example,bob@b.example\nalias *@old.example root@mx.test\n"
        "alias bob@b.example bob@b.example,eve@c.example"
    )
    async with Inbound(text) as inbound:
        await send(inbound, "x@old.example", "root@elsewhere.example")

        (envelope,) = inbound.partition.envelopes
        assert rcpts(envelope) == [
            "ann@c.example",
            "bob@b.example",
            "eve@c.example",
            "root@elsewhere.example",
        ]
        assert envelope.recipients[0].orcpt == "rfc822;x@old.example"
        assert envelope.recipients[3].orcpt == ""


async def test_rewrite_list_changes_return_path_and_from_line() -> None:
    lines = "mail-from *@a.example *@new.example\nfrom-domain a.example new.example\n"
    text = f"<rewrite-list r>\n{lines}</rewrite-list>"
    async with Inbound(text, source=f"{OPEN}\nrewrite-list r") as inbound:
        await send(inbound)

        (envelope,) = inbound.partition.envelopes
        assert envelope.originator == "ann@new.example"
        assert b"From: Ann <ann@new.example>\r\n" in inbound.partition.bodies[0]


async def test_rewrite_list_of_a_virtual_mta_is_for_its_mail() -> None:
    text = (
        "<rewrite-list r>\nmail-from *@* *@bounces.example\n</rewrite-list>\n"
        "<virtual-mta v>\nrewrite-list r\n</virtual-mta>"
    )
    async with Inbound(text, source=f"{OPEN}\nprocess-x-virtual-mta yes") as inbound:
        await send(inbound)
        await send(inbound, content=b"x-virtual-mta: v\r\n" + MESSAGE)

        assert [one.originator for one in inbound.partition.envelopes] == [
            "ann@a.example",
            "ann@bounces.example",
        ]


async def test_verp_gives_each_recipient_a_return_path() -> None:
    async with Inbound(source=f"{OPEN}\nverp-default yes") as inbound:
        await send(inbound, "bob@b.example", "eve@c.example")

        (envelope,) = inbound.partition.envelopes
        assert envelope.is_personal
        assert [personal_envelope(envelope, index).originator for index in (0, 1)] == [
            "ann-bob=b.example@a.example",
            "ann-eve=c.example@a.example",
        ]


@pytest.mark.parametrize(("source", "code"), [("allow-mailmerge yes", "250 2.1.0"), ("", "555 5.5.4")])
async def test_client_may_ask_for_verp_where_it_is_offered(source: str, code: str) -> None:
    async with Inbound(source=f"{OPEN}\n{source}") as inbound, inbound.caller() as caller:
        offered = await caller.hello()

        assert ("VERP" in offered) is bool(source)
        assert (await caller.codes("MAIL FROM:<a@example.com> VERP"))[0].split()[0] in (
            code.split()[0],
            "555",
        )


async def test_header_lines_are_removed_and_included(tmp_path: Path) -> None:
    (tmp_path / "global").write_text("X-Global: 1\n")
    (tmp_path / "own").write_text("X-Own: 1\r\n\tfolded\r\n")
    text = (
        f"include-headers-from {tmp_path}/global\n"
        f"<virtual-mta v>\ninclude-headers-from {tmp_path}/own\n</virtual-mta>"
    )
    source = f"{OPEN}\nremove-header X-Secret, Subject\ndefault-virtual-mta v\nadd-x-virtual-mta-header yes"
    async with Inbound(text, source=source) as inbound:
        await send(inbound)

        received, rest = inbound.partition.bodies[0].split(b" +0000\r\n")
        assert received.startswith(b"Received: ")
        assert rest == (
            b"X-Global: 1\r\nX-Own: 1\r\n\tfolded\r\nx-virtual-mta: v\r\n"
            b"From: Ann <ann@a.example>\r\n\r\nText.\r\n"
        )


async def test_file_that_is_no_list_of_headers_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "bad").write_text("this is a body\n")
    async with Inbound(f"include-headers-from {tmp_path}/bad") as inbound:
        await send(inbound)

        assert b"body" not in inbound.partition.bodies[0]


async def test_rerouted_recipients_are_stored_apart() -> None:
    text = "<virtual-mta v>\n</virtual-mta>\n<domain c.example>\nreroute-to-virtual-mta v\n</domain>"
    async with Inbound(text) as inbound:
        reply = await send(inbound, "bob@b.example", "eve@c.example", "joe@b.example")

        assert [(one.vmta, rcpts(one)) for one in inbound.partition.envelopes] == [
            ("{default}", ["bob@b.example", "joe@b.example"]),
            ("v", ["eve@c.example"]),
        ]
        assert inbound.partition.envelopes[0].queue_id in reply
        assert len(inbound.admitted) == 2


async def test_circle_of_reroutes_ends() -> None:
    text = (
        "<virtual-mta v>\n<domain *>\nreroute-to-virtual-mta w\n</domain>\n</virtual-mta>\n"
        "<virtual-mta w>\n<domain *>\nreroute-to-virtual-mta v\n</domain>\n</virtual-mta>\n"
    )
    async with Inbound(text, source=f"{OPEN}\ndefault-virtual-mta v") as inbound:
        await send(inbound)

        assert [one.vmta for one in inbound.partition.envelopes] == ["w"]


async def test_too_many_recipients_may_fail_the_message() -> None:
    source = f"{OPEN}\nmax-rcpt-per-message 1\ntoo-many-rcpts-fails-message yes"
    async with Inbound(source=source) as inbound, inbound.caller() as caller:
        await caller.hello()
        commands = ["MAIL FROM:<a@example.com>", "RCPT TO:<a@b.example>", "RCPT TO:<c@b.example>", "DATA"]

        assert await caller.codes(*commands) == ["250 2.1.0", "250 2.1.5", "250 2.1.5", "552 5.5.3"]
        assert inbound.partition.stored == []


@pytest.mark.parametrize(("word", "ret"), [("headers", 2), ("full", 1), ("system", 0)])
async def test_source_says_what_reports_return(word: str, ret: int) -> None:
    async with Inbound(source=f"{OPEN}\ndsn-return-default {word}") as inbound:
        await send(inbound)

        assert inbound.partition.envelopes[0].ret == ret


WARM = (
    "<virtual-mta warm>\ncold-virtual-mta cold1\ncold-virtual-mta cold2\n"
    "<domain b.example>\nmax-cold-virtual-mta-msg 1/day,2/day\n</domain>\n</virtual-mta>\n"
    "<virtual-mta cold1>\n</virtual-mta>\n<virtual-mta cold2>\n</virtual-mta>\n"
)


async def test_cold_virtual_mtas_take_turns_until_each_has_its_number_for_the_day() -> None:
    async with Inbound(WARM, source=f"{OPEN}\ndefault-virtual-mta warm", cold=ColdMemory()) as inbound:
        for _ in range(4):
            await send(inbound)
        await send(inbound, "bob@other.example")

        assert [one.vmta for one in inbound.partition.envelopes] == ["cold1", "cold2", "warm", "warm", "warm"]


async def test_cold_virtual_mtas_may_be_written_as_addresses() -> None:
    text = (
        "<virtual-mta warm>\n"
        "auto-cold-virtual-mta 192.0.2.7 c1.x.org\nauto-cold-virtual-mta 192.0.2.8 c2.x.org\n"
        "<domain b.example>\nmax-cold-virtual-mta-msg 1/day\n</domain>\n</virtual-mta>\n"
    )
    async with Inbound(text, source=f"{OPEN}\ndefault-virtual-mta warm", cold=ColdMemory()) as inbound:
        for _ in range(3):
            await send(inbound)

        assert [one.vmta for one in inbound.partition.envelopes] == ["warm.cold", "warm.cold2", "warm"]
