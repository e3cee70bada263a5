"""Mail merge over the listener, word by word."""

from __future__ import annotations

import pytest

from mta.message.personal import personal_content, personal_envelope
from tests.support.inbound import OPEN, Inbound

pytestmark = pytest.mark.both_loops

MERGE = f"{OPEN}\nallow-mailmerge yes\nadd-received-header no"
VMTAS = "<virtual-mta v>\n</virtual-mta>\n<virtual-mta w>\n</virtual-mta>\n"


def copies(inbound: Inbound) -> list[tuple[str, str, bytes]]:
    """Return path, recipient and content of everything that would be sent."""
    return [
        (
            personal_envelope(envelope, index).originator,
            recipient.address,
            personal_content(envelope, index, body),
        )
        for envelope, body in inbound.partition.stored
        for index, recipient in enumerate(envelope.recipients)
    ]


async def test_keywords_are_offered_where_it_is_allowed() -> None:
    async with Inbound(source=MERGE) as inbound, inbound.caller() as caller:
        words = (await caller.hello()).split()

        assert {"250-XACK", "250-XMRG"} <= set(words)
        assert "VERP" in " ".join(words)


async def test_commands_are_unknown_where_it_is_not_allowed() -> None:
    async with Inbound() as inbound, inbound.caller() as caller:
        assert "XMRG" not in await caller.hello()
        commands = ["XMRG FROM:<a@x.org>", "XDFN a=b", "XPRT 1 LAST", "XACK OFF"]
        assert await caller.codes(*commands) == ["502 5.5.1"] * 4


async def test_each_recipient_gets_its_own_words_and_parts() -> None:
    async with Inbound(source=MERGE) as inbound, inbound.caller() as caller:
        await caller.hello()
        assert await caller.codes(
            "XMRG FROM:<news@x.org> VERP",
            'XDFN name="Ann B" x=1',
            "XDFN *parts=1,3",
            "RCPT TO:<ann@a.example>",
            "XDFN name=Bob",
            "RCPT TO:<bob@b.example>",
            "XPRT 1",
        ) == ["250 2.1.0", "250 2.0.0", "250 2.0.0", "250 2.1.5", "250 2.0.0", "250 2.1.5", "354"]
        caller.send(b"Subject: [name]\r\nTo: [*to]\r\n\r\n.\r\n")
        assert (await caller.reply()).startswith("250")
        assert await caller.codes("XPRT 2") == ["354"]
        caller.send(b"second [[x]\r\n.\r\n")
        assert (await caller.reply()).startswith("250")
        assert await caller.codes("XPRT 3 LAST") == ["354"]
        caller.send(b"third [x].\r\n.\r\n")
        assert "queued as" in await caller.reply()

        assert copies(inbound) == [
            (
                "news-ann=a.example@x.org",
                "ann@a.example",
                b"Subject: Ann B\r\nTo: ann@a.example\r\n\r\nthird 1.\r\n",
            ),
            (
                "news-bob=b.example@x.org",
                "bob@b.example",
                b"Subject: Bob\r\nTo: bob@b.example\r\n\r\nsecond [x]\r\nthird .\r\n",
            ),
        ]
        assert inbound.reception.receiving == 0


async def test_plain_message_may_follow_a_merge() -> None:
    async with Inbound(source=MERGE) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("XMRG FROM:<a@x.org>", "RCPT TO:<b@y.org>", "XPRT 1 LAST")
        caller.send(b"Subject: 1\r\n\r\n[x]\r\n.\r\n")
        await caller.reply()
        await caller.ask("MAIL FROM:<a@x.org>", "RCPT TO:<b@y.org>")
        await caller.content(b"Subject: 2\r\n\r\n[x]\r\n")

        assert [content for _, _, content in copies(inbound)] == [
            b"Subject: 1\r\n\r\n\r\n",
            b"Subject: 2\r\n\r\n[x]\r\n",
        ]


async def test_recipients_may_go_through_different_virtual_mtas_and_jobs() -> None:
    async with Inbound(VMTAS, source=MERGE) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("XMRG FROM:<a@x.org>")
        for number, words in enumerate(
            ["*vmta=v *jobid=j1", "*vmta=w *jobid=j1", "*vmta=v *jobid=j1", "*envid=e"]
        ):
            await caller.ask(f"XDFN {words}", f"RCPT TO:<r{number}@y.org>")
        await caller.ask("XPRT 1 LAST")
        caller.send(b"Subject: 1\r\n\r\n.\r\n")
        assert (await caller.reply()).startswith("250")

        assert [
            (one.vmta, one.job_id, [recipient.address for recipient in one.recipients])
            for one in inbound.partition.envelopes
        ] == [
            ("v", "j1", ["r0@y.org", "r2@y.org"]),
            ("w", "j1", ["r1@y.org"]),
            ("{default}", "", ["r3@y.org"]),
        ]
        assert personal_envelope(inbound.partition.envelopes[2], 0).envelope_id == "e"


async def test_wrong_virtual_mta_refuses_the_merge() -> None:
    async with Inbound(source=MERGE) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("XMRG FROM:<a@x.org>", "XDFN *vmta=nowhere", "RCPT TO:<b@y.org>", "XPRT 1 LAST")
        caller.send(b"\r\n.\r\n")

        assert (await caller.reply()).startswith("550 5.3.5")
        assert inbound.partition.stored == []


async def test_order_of_commands_is_kept() -> None:
    async with Inbound(source=MERGE) as inbound, inbound.caller() as caller:
        await caller.hello()

        assert await caller.codes("XDFN a=b", "XPRT 1 LAST", "XMRG FROM:<a@x.org>") == [
            "503 5.5.1",
            "503 5.5.1",
            "250 2.1.0",
        ]
        assert await caller.codes("XMRG FROM:<a@x.org>", "XPRT 1", "DATA", "XDFN =", "XACK maybe") == [
            "503 5.5.1",
            "554 5.5.1",
            "503 5.5.1",
            "501 5.5.4",
            "501 5.5.4",
        ]
        assert await caller.codes("RCPT TO:<b@y.org>", "XPRT 2", "XPRT one", "RSET", "XPRT 1") == [
            "250 2.1.5",
            "501 5.5.4",
            "501 5.5.4",
            "250 2.0.0",
            "503 5.5.1",
        ]


async def test_part_that_was_never_sent_refuses_the_merge() -> None:
    async with Inbound(source=MERGE) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("XMRG FROM:<a@x.org>", "XDFN *parts=2", "RCPT TO:<b@y.org>", "XPRT 1 LAST")
        caller.send(b"\r\n.\r\n")

        assert (await caller.reply()).startswith("554 5.5.4")
        assert inbound.reception.receiving == 0


async def test_parts_together_are_held_to_the_size_limit() -> None:
    async with Inbound(source=f"{MERGE}\nmax-message-size 1000") as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("XMRG FROM:<a@x.org>", "RCPT TO:<b@y.org>", "XPRT 1")
        caller.send(b"x" * 700 + b"\r\n.\r\n")
        assert (await caller.reply()).startswith("250")
        await caller.ask("XPRT 2 LAST")
        caller.send(b"x" * 700 + b"\r\n.\r\n")

        assert (await caller.reply()).startswith("552 5.3.4")
        assert await caller.codes("XPRT 2 LAST") == ["503 5.5.1"]


async def test_memory_of_a_merge_is_given_back_when_the_client_leaves() -> None:
    async with Inbound(source=MERGE) as inbound:
        async with inbound.caller() as caller:
            await caller.hello()
            await caller.ask("XMRG FROM:<a@x.org>", "RCPT TO:<b@y.org>", "XPRT 1")
            caller.send(b"x" * 700 + b"\r\n.\r\n")
            await caller.reply()
            assert inbound.reception.receiving == 702
            await caller.ask("QUIT")
        await inbound.reception.empty.wait()

        assert inbound.reception.receiving == 0


async def test_xack_off_leaves_rcpt_and_xdfn_unanswered() -> None:
    async with Inbound(source=MERGE) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("XACK OFF", "XMRG FROM:<a@x.org>")
        for number in range(500):
            caller.send(f"XDFN n={number}\r\nRCPT TO:<r{number}@y.org>\r\n".encode())

        assert (await caller.ask("XPRT 1 LAST")).startswith("354")
        caller.send(b"n: [n]\r\n\r\n.\r\n")
        assert (await caller.reply()).startswith("250")
        assert [content for _, _, content in copies(inbound)][499] == b"n: 499\r\n\r\n"


async def test_refusal_that_was_kept_back_ends_the_message() -> None:
    async with Inbound(source=MERGE) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("XACK OFF", "MAIL FROM:<a@x.org>")
        caller.send(b"RCPT TO:<b@y.org>\r\nRCPT TO:<bad bad>\r\n")

        assert (await caller.codes("DATA", "DATA")) == ["501 5.1.3", "503 5.5.1"]
        assert await caller.codes("XACK ON", "MAIL FROM:<a@x.org>", "RCPT TO:<b@y.org>") == [
            "250 2.0.0",
            "250 2.1.0",
            "250 2.1.5",
        ]


async def test_refusal_that_was_kept_back_before_a_message_is_told_when_silence_ends() -> None:
    async with Inbound(source=MERGE) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("XACK OFF")
        caller.send(b"RCPT TO:<b@y.org>\r\n")
        await caller.ask("XACK ON", "MAIL FROM:<a@x.org>", "RCPT TO:<b@y.org>")

        assert (await caller.codes("DATA", "DATA")) == ["503 5.5.1", "503 5.5.1"]


async def test_bad_addresses_become_bounces_where_that_is_wanted() -> None:
    source = f"{MERGE}\naccept-invalid-recipients yes"
    async with Inbound(source=source) as inbound, inbound.caller() as caller:
        await caller.hello()
        await caller.ask("XACK OFF", "XMRG FROM:<a@x.org>")
        caller.send(b"XDFN n=1\r\nRCPT TO:<b@y.org>\r\nRCPT TO:<bad bad>\r\n")
        await caller.ask("XPRT 1 LAST")
        caller.send(b"\r\n.\r\n")

        assert (await caller.reply()).startswith("250")
        (envelope,) = inbound.partition.envelopes
        assert [one.queue_domain for one in envelope.recipients] == ["y.org", "{invalid}"]
