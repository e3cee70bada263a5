"""A live connection: pipelining, long bodies, reuse, limits, signatures, ends."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from mta.delivery.session import HIGH_WATER
from mta.queue.policy import EgressSource, QueuePolicy, VmtaPolicy
from mta.routing.router import Target
from mta.smtp.transaction import internal_reply
from tests.support.certificates import make_certificate, server_context
from tests.support.delivery_rig import BODY, HASTY, PATIENT, DeliveryRig, policy_of
from tests.support.scripted_server import (
    CLOSE,
    HANG,
    RESET,
    SILENT,
    Late,
    Raw,
    Script,
    ScriptedServer,
)

pytestmark = pytest.mark.both_loops

ENVELOPE = ["MAIL FROM:<a@example.com>", "RCPT TO:<b@example.net>", "DATA"]
LONG = b"Subject: long\r\n\r\n" + b"".join(b"%08d %s\r\n" % (n, b"x" * 60) for n in range(60_000))
KEEP = replace(PATIENT, connection_idle_timeout=30.0)


def verbs(server: ScriptedServer) -> list[str]:
    return [command.split(" ")[0] for command in server.commands]


async def test_messages_follow_each_other_on_one_connection_and_the_last_says_quit() -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        for _ in range(3):
            rig.admit()
        await rig.until(3)
        await rig.until_idle()

    assert server.commands == ["EHLO out.example.com", *ENVELOPE * 3, "QUIT"]
    assert server.connections == 1
    assert rig.kinds() == ["d", "d", "d"]


async def test_the_next_envelope_is_out_before_the_dot_is_answered() -> None:
    async with ScriptedServer(Script(dot=[HANG])) as server, DeliveryRig([server.port]) as rig:
        rig.admit()
        rig.admit()
        while len(server.accepted) < 1:
            await rig.turn()
        session = next(iter(rig.dispatcher._sessions.values()))

        assert session.is_waiting_for_dot
        assert rig.scheduler.queues(rig.clock.now()).__next__().in_flight == 2
        session.abort(internal_reply(451, "4.4.2", "enough"))
        await rig.until(1)

        assert [event.type for event in rig.events] == ["t"]
        assert rig.settlement.stats().uncertain == 1


async def test_without_pipelining_nothing_is_sent_ahead() -> None:
    async with ScriptedServer(Script(offers=())) as server, DeliveryRig([server.port]) as rig:
        rig.admit("b@example.net", "c@example.net")
        rig.admit("b@example.net")
        await rig.until(3)

    assert verbs(server)[:9] == ["EHLO", "MAIL", "RCPT", "RCPT", "DATA", "MAIL", "RCPT", "DATA", "QUIT"]


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        b"",
        b"\r\n",
        b"..\r\n",
        b"..leading\r\n...two\r\n\r\n..\r\n",
        b"8bit \xff\x00\x80\r\n",
        b"x" * 65_533 + b"\r\n",
        b"x" * 65_534 + b"\r\n",
        b"x" * 65_535 + b"\r\n",
        b"no line end",
        LONG,
    ],
    ids=[
        "plain",
        "empty",
        "blank",
        "dot",
        "dots",
        "8bit",
        "under-chunk",
        "chunk",
        "over-chunk",
        "open",
        "long",
    ],
)
async def test_what_arrives_is_what_was_stored(body: bytes) -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        rig.admit(body=body)
        rig.admit()
        await rig.until(2)

    ending = b"" if not body or body.endswith(b"\r\n") else b"\r\n"
    assert [attempt.body for attempt in server.accepted] == [body + ending + b".\r\n", BODY + b".\r\n"]


async def test_a_long_body_waits_for_the_receiver_and_is_never_buffered_as_a_whole() -> None:
    body = LONG * 3
    most = 0
    script = Script(DATA=["354 go"], body=[(Late("", 0.2), SILENT)])
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        rig.admit(body=body)
        while not server.seen("DATA"):
            await rig.turn()
        session = next(iter(rig.dispatcher._sessions.values()))
        for _ in range(20):
            most = max(most, session.connection.transport.get_write_buffer_size())
            await rig.turn()
        session.abort(internal_reply(451, "4.4.2", "enough"))

    assert 0 < most <= HIGH_WATER + 64 * 1024


async def test_a_refusal_in_the_middle_of_a_long_body_is_final() -> None:
    script = Script(body=("552 5.3.4 too big", HANG))
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        rig.admit("b@example.net", "c@example.net", body=LONG * 5)
        events = await rig.until(2)

        assert [(event.type, event.dsn_status) for event in events] == [("b", "5.3.4")] * 2


QUICK = policy_of("data-send-timeout 1s")


@pytest.mark.directive("domain data-send-timeout")
async def test_a_receiver_that_stops_reading_is_given_up() -> None:
    script = Script(body=(Late(SILENT, 30.0)))
    async with ScriptedServer(script) as server, DeliveryRig([server.port], policy=QUICK) as rig:
        rig.admit(body=LONG * 5)
        event = (await rig.until(1))[0]

    assert (event.type, event.dsn_status) == ("t", "4.4.2")
    assert "does not take the message in time" in event.dsn_diag
    assert rig.settlement.stats().uncertain == 0


@pytest.mark.parametrize("is_sent", [False, True])
async def test_a_broken_transfer_may_bounce_by_order_but_not_once_the_dot_is_out(is_sent: bool) -> None:
    policy = replace(PATIENT, bounce_upon_transfer_failure=True)
    script = Script(dot=CLOSE) if is_sent else Script(body=RESET)
    async with ScriptedServer(script) as server, DeliveryRig([server.port], policy=policy) as rig:
        rig.admit(body=BODY if is_sent else LONG * 5)
        event = (await rig.until(1))[0]

    assert event.type == ("t" if is_sent else "b")


async def test_silence_after_the_dot_may_count_as_delivery_by_order() -> None:
    policy = replace(HASTY, assume_delivery_upon_data_termination_timeout=True)
    script = Script(dot=HANG)
    async with ScriptedServer(script) as server, DeliveryRig([server.port], policy=policy) as rig:
        rig.admit()
        event = (await rig.until(1))[0]

    assert (event.type, event.dsn_status) == ("d", "2.0.0")
    assert "assumed" in event.dsn_diag
    assert rig.settlement.stats().uncertain == 1


@pytest.mark.parametrize("how", [CLOSE, RESET])
async def test_a_connection_that_died_while_idle_costs_nothing_but_a_new_one(how: object) -> None:
    first = Script(MAIL=["250 ok", how])
    async with ScriptedServer(first, Script()) as server, DeliveryRig([server.port], policy=KEEP) as rig:
        rig.admit()
        await rig.until(1)
        rig.admit()
        await rig.until(2)

    assert rig.kinds() == ["d", "d"]
    assert server.connections == 2
    assert rig.store.deferrals == []


@pytest.mark.parametrize("words", [Raw(b"421 4.4.2 idle too long\r\n"), Raw(b"250 what?\r\n"), Raw(b"\xff")])
async def test_unasked_words_on_an_idle_connection_end_it_and_nothing_else(words: object) -> None:
    script = Script(dot=("250 2.0.0 ok", Late(words, 0.02)))
    async with ScriptedServer(script) as server, DeliveryRig([server.port], policy=KEEP) as rig:
        rig.admit()
        await rig.until_idle_after(1)

        assert rig.kinds() == ["d"]
        assert server.connections == 1


async def test_an_idle_connection_is_used_again() -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port], policy=KEEP) as rig:
        for count in (1, 2, 3):
            rig.admit()
            await rig.until(count)

        assert rig.dispatcher.stats().resting == 1

    assert server.connections == 1


async def test_an_idle_connection_is_left_with_quit_after_its_time() -> None:
    policy = replace(PATIENT, connection_idle_timeout=0.3)
    async with ScriptedServer() as server, DeliveryRig([server.port], policy=policy) as rig:
        rig.admit()
        await rig.until_idle_after(1)

        assert verbs(server)[-1] == "QUIT"


async def test_a_connection_carries_no_more_messages_than_allowed() -> None:
    queue = QueuePolicy(max_smtp_out=1, max_msg_per_connection=2)
    async with ScriptedServer() as server, DeliveryRig([server.port], queue=queue) as rig:
        for _ in range(5):
            rig.admit()
        await rig.until(5)
        await rig.until_idle()

    assert [attempt.connection for attempt in server.attempts] == [0, 0, 1, 1, 2]
    assert verbs(server).count("QUIT") == 3


async def test_a_connection_with_too_many_refusals_is_left() -> None:
    policy = replace(PATIENT, max_errors_per_connection=2)
    script = Script(RCPT="550 5.1.1 no")
    async with ScriptedServer(script) as server, DeliveryRig([server.port], policy=policy) as rig:
        for _ in range(4):
            rig.admit()
        await rig.until(4)

    assert [attempt.connection for attempt in server.attempts] == [0, 0, 1, 1]


async def test_a_refused_message_does_not_disturb_the_next_one() -> None:
    script = Script(RCPT=["550 5.1.1 no", "250 ok", "250 ok"])
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        for _ in range(3):
            rig.admit()
        await rig.until(3)

    assert rig.kinds() == ["b", "d", "d"]
    assert server.connections == 1
    assert verbs(server).count("RSET") == 1


async def test_recipients_over_the_receivers_limit_go_in_further_transactions() -> None:
    names = [f"r{n}@example.net" for n in range(7)]
    replies = ["250 ok"] * 3 + ["452 4.5.3 too many"] * 4
    async with ScriptedServer(Script(RCPT=replies)) as server, DeliveryRig([server.port]) as rig:
        rig.admit(*names)
        await rig.until(7)

    assert rig.kinds() == ["d"] * 7
    assert [attempt.recipients for attempt in server.accepted] == [names[:3], names[3:6], names[6:]]
    assert rig.store.deferrals == []
    # Once the limit is known, no more are offered than it allows.
    assert verbs(server).count("RCPT") == 7 + 3 + 1


async def test_421_after_deliveries_costs_its_recipient_a_wait_and_the_queue_a_connection() -> None:
    first = Script(MAIL=["250 ok", ("421 4.7.0 enough for today", CLOSE)])
    async with ScriptedServer(first, Script()) as server, DeliveryRig([server.port]) as rig:
        for _ in range(4):
            rig.admit()
        await rig.until(4)

    assert rig.kinds() == ["d", "d", "d", "t"]
    assert server.connections == 2


async def test_421_before_any_delivery_makes_the_queue_wait() -> None:
    script = Script(MAIL=("421 4.7.0 go away", CLOSE))
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        for _ in range(4):
            rig.admit()
        await rig.until_idle_after(1)

        assert rig.kinds() == ["t"]
        assert len(rig.store.waiting) == 4

    assert server.connections == 1


async def test_messages_that_the_offers_rule_out_are_settled_without_being_sent() -> None:
    offers = ("PIPELINING", "SIZE 100")
    async with ScriptedServer(Script(offers=offers)) as server, DeliveryRig([server.port]) as rig:
        for _ in range(40):
            rig.admit(body=b"x" * 200 + b"\r\n")
        rig.admit(body=b"small\r\n")
        await rig.until(41)

    assert rig.kinds() == ["b"] * 40 + ["d"]
    assert len(server.attempts) == 1


async def test_an_address_that_can_not_be_sent_fails_and_the_connection_goes_on() -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        rig.admit("b@example.net>\r\nRCPT TO:<evil@example.net")
        rig.admit()
        await rig.until(2)

    assert rig.kinds() == ["b", "d"]
    assert [attempt.recipients for attempt in server.attempts] == [["b@example.net"]]


@pytest.mark.parametrize("is_slow", [False, True])
async def test_the_signature_goes_in_front(is_slow: bool) -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        rig.signer.head = b"DKIM-Signature: x\r\n"
        rig.signer.is_slow = is_slow
        for _ in range(5):
            rig.admit()
        rig.admit(body=LONG)
        events = await rig.until(6)

    bodies = [attempt.body for attempt in server.accepted]
    assert bodies == [b"DKIM-Signature: x\r\n" + body + b".\r\n" for body in [BODY] * 5 + [LONG]]
    assert events[0].size == len(BODY) + 19


async def test_a_signature_that_comes_after_the_connection_went_is_ignored() -> None:
    async with ScriptedServer(Script(DATA=RESET)) as server, DeliveryRig([server.port]) as rig:
        rig.signer.is_slow = True
        rig.admit()
        await rig.until(1)
        for _ in range(5):
            await rig.turn()

        assert rig.kinds() == ["t"]


async def test_the_connection_comes_from_the_virtual_mtas_address_with_its_name() -> None:
    vmta = VmtaPolicy(sources=(EgressSource("127.0.0.7", "seven.example.com"),))
    async with ScriptedServer() as server, DeliveryRig([server.port], vmta=vmta) as rig:
        rig.admit()
        event = (await rig.until(1))[0]

    assert (server.attempts[0].peer, server.attempts[0].helo) == ("127.0.0.7", "seven.example.com")
    assert event.delivery_source_ip == "127.0.0.7"


async def test_a_bug_of_ours_costs_the_connection_but_no_mail(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        conclude, calls = rig.settlement.conclude, []

        def fail_once(*arguments):  # type: ignore[no-untyped-def]
            calls.append(arguments)
            if len(calls) == 1:
                raise ZeroDivisionError
            return conclude(*arguments)

        rig.settlement.conclude = fail_once  # type: ignore[method-assign]
        rig.admit()
        await rig.until(1)

    assert rig.kinds() == ["d"]
    assert server.connections == 2
    assert "ZeroDivisionError" in caplog.text


# -- the end of the day ------------------------------------------------------------------------------------


async def test_draining_finishes_what_is_under_way_and_leaves_the_rest_in_the_queue() -> None:
    script = Script(dot=Late("250 2.0.0 ok", 0.1))
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        for _ in range(5):
            rig.admit()
        while not server.accepted:
            await rig.turn()
        await rig.dispatcher.drain(rig.clock.now() + 5.0)

        assert set(rig.kinds()) == {"d"}
        assert len(rig.events) == len(server.accepted) < 5
        assert len(rig.store.waiting) == 5 - len(server.accepted)
        assert verbs(server)[-1] == "QUIT"


async def test_a_transfer_that_does_not_end_in_time_is_cut_and_counts_as_never_tried() -> None:
    script = Script(body=Late(SILENT, 30.0))
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        rig.admit(body=LONG * 5)
        while not server.seen("DATA"):
            await rig.turn()
        await rig.dispatcher.drain(rig.clock.now() + 0.3)

        assert rig.events == []
        assert len(rig.store.waiting) == 1
        assert rig.store.deferrals == []


async def test_after_the_dot_draining_waits_for_the_answer_to_the_end() -> None:
    script = Script(dot=Late("250 2.0.0 ok", 0.4))
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        rig.admit()
        rig.admit()
        while not server.accepted:
            await rig.turn()
        # The patience with transfers ends before the answer comes; the deadline does not.
        await rig.dispatcher.drain(rig.clock.now() + 0.6)

        assert rig.kinds() == ["d"]
        assert len(rig.store.waiting) == 1


async def test_an_answer_that_never_comes_is_uncertain_in_the_end() -> None:
    async with ScriptedServer(Script(dot=HANG)) as server, DeliveryRig([server.port]) as rig:
        rig.admit()
        while not server.accepted:
            await rig.turn()
        await rig.dispatcher.drain(rig.clock.now() + 0.2)

        assert rig.kinds() == ["t"]
        assert rig.settlement.stats().uncertain == 1


async def test_its_status_line_says_what_it_waits_for() -> None:
    async with ScriptedServer(Script(dot=HANG)) as server, DeliveryRig([server.port]) as rig:
        rig.admit()
        while not server.accepted:
            await rig.turn()
        session = next(iter(rig.dispatcher._sessions.values()))

        assert repr(session) == (
            "<Session example.net/v1 with mx.example.net (127.0.0.1): awaiting END, 0 done>"
        )
        session.abort(internal_reply(451, "4.4.2", "enough"))
        assert "over" in repr(session)
        await asyncio.wait_for(rig.until(1), 5)


# -- other ways to the same end ----------------------------------------------------------------------------


async def test_over_tls_everything_is_the_same(tmp_path: Path) -> None:
    script = Script(offers=("PIPELINING", "STARTTLS"))
    context = server_context(make_certificate(tmp_path))
    bodies = [BODY, LONG, b"..\r\n", LONG * 2, BODY]
    async with ScriptedServer(script, tls=context) as server, DeliveryRig([server.port]) as rig:
        for body in bodies:
            rig.admit(body=body)
        events = await rig.until(len(bodies))
        await rig.until_idle()

    assert [attempt.body for attempt in server.accepted] == [body + b".\r\n" for body in bodies]
    assert {attempt.tls for attempt in server.accepted} == {True}
    assert server.connections == 1
    assert verbs(server)[-1] == "QUIT"
    assert {(event.tls_protocol, event.tls_cipher[:4]) for event in events} == {("TLSv1.3", "TLS_")}


@pytest.mark.parametrize("how", [CLOSE, RESET, HANG])
async def test_over_tls_a_lost_connection_loses_nobody(how: object, tmp_path: Path) -> None:
    script = Script(offers=("PIPELINING", "STARTTLS"), dot=how)
    context = server_context(make_certificate(tmp_path))
    policy = HASTY if how is HANG else PATIENT
    async with (
        ScriptedServer(script, tls=context) as server,
        DeliveryRig([server.port], policy=policy) as rig,
    ):
        rig.admit()
        event = (await rig.until(1))[0]

    assert (event.type, event.dsn_status) == ("t", "4.4.2")
    assert rig.settlement.stats().uncertain == 1


async def test_over_ipv6_too() -> None:
    async with ScriptedServer(host="::1") as server, DeliveryRig([]) as rig:
        rig.routes.targets = (Target("mx.example.net", "::1", server.port, 0),)
        rig.vmta = VmtaPolicy(sources=(EgressSource("::1", "six.example.com"),))
        rig.admit()
        event = (await rig.until(1))[0]

    assert event.delivery_source_ip == event.delivery_destination_ip == "::1"
    assert event.dsn_mta == "mx.example.net (::1)"


async def test_a_thousand_recipients_go_in_one_transaction() -> None:
    names = [f"recipient-number-{n:04}@example.net" for n in range(1000)]
    async with ScriptedServer(Script(RCPT=["550 5.1.1 no"])) as server, DeliveryRig([server.port]) as rig:
        rig.admit(*names)
        await rig.until(1000)

    assert len(server.accepted) == 1
    assert server.accepted[0].recipients == names[1:]
    assert rig.kinds() == ["b"] + ["d"] * 999
