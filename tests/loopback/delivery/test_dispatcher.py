"""From waiting recipients to connections and back: routes, limits, rules, expiry, and what goes wrong."""

from __future__ import annotations

import asyncio
import gc
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import mta.delivery.dispatcher as dispatcher_module
from mta.config.patterns import ReplyPattern, read_reply_pattern
from mta.config.problems import Origin
from mta.config.units import Rate
from mta.delivery.deadline import Deadline
from mta.delivery.greeter import Greeter
from mta.delivery.opener import REFUSED_AT_ONCE
from mta.delivery.session import Session
from mta.errors import Contradiction, RouteError, SpoolCorrupt, SpoolError
from mta.message.envelope import Notify
from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy
from mta.queue.reaction import ReplyRules
from tests.support.delivery_rig import PATIENT, DeliveryRig
from tests.support.descriptors import no_free_descriptor
from tests.support.scripted_server import CLOSE, HANG, Late, Script, ScriptedServer
from tests.support.service import free_port

pytestmark = pytest.mark.both_loops


def patterns(*lines: tuple[str, str]) -> Sequence[ReplyPattern]:
    return [read_reply_pattern(stage, text, Origin(Path("t"), 1)) for stage, text in lines]


def rules(*lines: tuple[str, str], policy: QueuePolicy | None = None) -> ReplyRules:
    return ReplyRules(policy or QueuePolicy(), patterns(*lines))


# -- the ordinary day --------------------------------------------------------------------------------------


async def test_many_messages_for_many_domains_arrive_once_each_within_the_limits() -> None:
    queue = QueuePolicy(max_smtp_out=2)
    async with ScriptedServer() as server, DeliveryRig([server.port], queue=queue) as rig:
        for number in range(200):
            domain = f"d{number % 5}.example"
            rig.admit(f"r{number}@{domain}", domain=domain)
        await rig.until(200)

    got = sorted(attempt.recipients[0] for attempt in server.accepted)
    assert got == sorted(f"r{number}@d{number % 5}.example" for number in range(200))
    assert server.most_open <= 10
    assert rig.kinds() == ["d"] * 200


async def test_connection_that_ended_leaves_nothing_for_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        script = Script(dot=("250 2.0.0 ok", CLOSE))
        async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
            rig.admit()
            await rig.until(1)
            await rig.until_idle()
            await rig.turn()
        left = [kind for kind in map(type, gc.get_objects()) if kind in (Session, Greeter, Deadline)]
    finally:
        gc.enable()

    assert left == []


async def test_old_mail_for_a_domain_without_mx_fails_when_its_address_does_not_answer() -> None:
    async with DeliveryRig([free_port()]) as rig:
        rig.routes.age = 3600.0
        now = rig.clock.now()
        rig.admit("old@example.net", received=now - 4000)
        rig.admit("young@example.net", received=now - 100)
        await rig.until(2)

        assert rig.kinds() == ["b", "tq"]
        (bounce,) = [event for event in rig.events if event.type == "b"]
        assert (bounce.recipient, bounce.dsn_status) == ("old@example.net", "5.4.4")
        assert "has no MX record" in bounce.dsn_diag
        assert len(rig.scheduler.entries(QueueKey("example.net", "v1"))) == 1


async def test_a_queue_opens_no_more_connections_than_its_limit() -> None:
    queue = QueuePolicy(max_smtp_out=3)
    script = Script(dot=Late("250 2.0.0 ok", 0.02))
    async with ScriptedServer(script) as server, DeliveryRig([server.port], queue=queue) as rig:
        for _ in range(60):
            rig.admit()
        await rig.until(60)

    assert server.most_open == 3


async def test_messages_admitted_in_one_turn_lead_to_one_look() -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        await rig.turn()
        looks: list[float] = []
        dispatch = rig.dispatcher._dispatch
        rig.dispatcher._dispatch = lambda now: (looks.append(now), dispatch(now))  # type: ignore[method-assign,assign]
        for _ in range(50):
            rig.admit()
        assert looks == []
        await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=0)

        assert len(looks) == 1
        await rig.until(50)


async def test_a_deferred_recipient_is_tried_again_when_it_is_due() -> None:
    queue = QueuePolicy(max_smtp_out=1, retry_recipients_after=0.5)
    later = Script(RCPT="450 4.2.1 later")
    async with ScriptedServer(later, Script()) as server, DeliveryRig([server.port], queue=queue) as rig:
        rig.admit()
        await rig.until(2)

    assert [event.type for event in rig.events] == ["t", "d"]
    assert rig.events[0].time_first_attempt > 0
    assert rig.store.deferrals[0][2] == 1
    assert rig.events[1].time_logged >= int(rig.store.deferrals[0][3])


async def test_a_queue_that_failed_is_tried_again_after_its_wait() -> None:
    queue = QueuePolicy(max_smtp_out=1, retry_after=(0.3,))
    async with ScriptedServer(Script(banner="421 busy"), Script()) as server:
        rig = DeliveryRig([server.port], queue=queue)
        async with rig:
            rig.admit()
            await rig.until(2)

    assert rig.kinds() == ["d", "tq"]


# -- rates and limits --------------------------------------------------------------------------------------


async def test_a_connection_outlives_a_rate_that_stops_it_for_a_moment() -> None:
    queue = QueuePolicy(max_smtp_out=1, max_msg_rate=Rate(2, 0.6))
    async with ScriptedServer() as server, DeliveryRig([server.port], queue=queue) as rig:
        for _ in range(6):
            rig.admit()
        await rig.until(6)

    assert server.connections == 1


async def test_bodies_on_their_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher_module, "BODIES_AT_ONCE", 3_000_000)
    body = (b"x" * 98 + b"\r\n") * 10_000
    script = Script(dot=Late("250 2.0.0 ok", 0.02))
    queue = QueuePolicy(max_smtp_out=20)
    async with ScriptedServer(script) as server, DeliveryRig([server.port], queue=queue) as rig:
        most = 0
        for _ in range(12):
            rig.admit(body=body)
        while len(rig.events) < 12:
            most = max(most, rig.dispatcher._bodies)
            await rig.turn()

    assert most <= 4_000_000
    assert rig.kinds() == ["d"] * 12
    assert rig.dispatcher._bodies == 0


# -- no way ------------------------------------------------------------------------------------------------


async def test_a_domain_that_does_not_exist_fails_all_its_mail_at_once() -> None:
    async with DeliveryRig([]) as rig:
        rig.routes.error = RouteError("example.net: no such domain", temporary=False, status="5.1.2")
        for _ in range(120):
            rig.admit()
        events = await rig.until(120)

    assert {(event.type, event.dsn_status, event.dsn_mta) for event in events} == {("b", "5.1.2", "")}
    assert events[0].dsn_diag == "smtp;550 5.1.2 [internal] example.net: no such domain"
    assert len(rig.returned) == 120


async def test_dns_trouble_makes_the_queue_wait() -> None:
    async with DeliveryRig([]) as rig:
        rig.routes.error = RouteError("MX of example.net: timed out", temporary=True, status="4.4.3")
        rig.admit()
        event = (await rig.until(1))[0]

        assert (event.type, event.dsn_status, event.queue) == ("tq", "4.4.3", "example.net/v1")
        row = next(rig.scheduler.queues(rig.clock.now()))
        assert 50 < row.retry_at - rig.clock.now() <= 66  # retry-after-dns-error and a tenth


async def test_a_want_of_descriptors_makes_the_queue_wait_for_a_moment_only() -> None:
    async with DeliveryRig([]) as rig:
        rig.routes.error = RouteError("no socket for name server 127.0.0.1", temporary=True, status="4.3.0")
        rig.admit()
        event = (await rig.until(1))[0]

        assert (event.type, event.dsn_status) == ("tq", "4.3.0")
        row = next(rig.scheduler.queues(rig.clock.now()))
        assert 4 < row.retry_at - rig.clock.now() <= 5.5


async def test_mail_goes_soon_after_there_was_no_descriptor_for_its_connection() -> None:
    async with ScriptedServer(Script()) as server, DeliveryRig([server.port]) as rig:
        with no_free_descriptor():
            rig.admit()
            event = (await rig.until(1))[0]

        assert (event.type, event.dsn_status) == ("tq", "4.3.0")
        assert "Too many open files" in event.dsn_diag
        row = next(rig.scheduler.queues(rig.clock.now()))
        assert 4 < row.retry_at - rig.clock.now() <= 5.5


async def test_hosts_that_our_addresses_cannot_reach_make_the_queue_wait_as_retry_after_says() -> None:
    async with DeliveryRig([]) as rig:
        rig.routes.error = RouteError("only IPv6 addresses", temporary=True, status="4.4.4")
        rig.admit()
        event = (await rig.until(1))[0]

        assert (event.type, event.dsn_status) == ("tq", "4.4.4")
        row = next(rig.scheduler.queues(rig.clock.now()))
        assert 3500 < row.retry_at - rig.clock.now() <= 3600
        assert rig.store.waiting == {(1, 0)}


async def test_a_host_that_refuses_everybody_fails_some_messages_and_is_asked_again() -> None:
    script = Script(banner="554 5.7.1 blocked")
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        for _ in range(REFUSED_AT_ONCE + 20):
            rig.admit()
        events = await rig.until(REFUSED_AT_ONCE + 20)

    assert {(event.type, event.dsn_status) for event in events} == {("b", "5.7.1")}
    assert events[0].dsn_mta == "mx.example.net (127.0.0.1)"
    assert server.connections == 2


# -- rules -------------------------------------------------------------------------------------------------


async def test_a_rule_may_send_the_mail_to_the_next_host() -> None:
    first, second = Script(RCPT="550 5.7.1 not here, try my brother"), Script()
    async with ScriptedServer(first) as one, ScriptedServer(second) as two:
        rig = DeliveryRig([one.port, two.port], rules=rules(("reply", "/try my brother/ skip-mx")))
        async with rig:
            rig.admit()
            await rig.until(2)

    assert rig.kinds() == ["d", "t"]
    assert (one.connections, two.connections) == (1, 1)


async def test_when_every_host_is_skipped_the_queue_waits() -> None:
    async with ScriptedServer(Script(RCPT="450 4.7.1 try my brother")) as server:
        rig = DeliveryRig([server.port], rules=rules(("reply", "/try my brother/ skip-mx")))
        async with rig:
            rig.admit()
            await rig.until(2)
            await rig.until_idle()

            assert rig.kinds() == ["t", "tq"]
            assert server.connections == 1


async def test_421_may_mean_the_next_host() -> None:
    policy = replace(PATIENT, mx_unavailable_on_421=True)
    full = Script(MAIL=("421 full", CLOSE))
    async with ScriptedServer(full) as one, ScriptedServer() as two:
        rig = DeliveryRig([one.port, two.port], policy=policy)
        async with rig:
            rig.admit()
            await rig.until(2)

    assert rig.kinds() == ["d", "t"]


async def test_a_rule_may_fail_the_whole_queue() -> None:
    script = Script(RCPT="450 4.7.1 you are blocked")
    async with ScriptedServer(script) as server:
        rig = DeliveryRig([server.port], rules=rules(("reply", "/blocked/ bounce-queue")))
        async with rig:
            for _ in range(150):
                rig.admit()
            events = await rig.until(150)

    assert {event.type for event in events} == {"b"}
    assert all(event.dsn_diag.startswith("smtp;") and "you are blocked" in event.dsn_diag for event in events)
    assert len(server.attempts) <= 3


async def test_a_rule_may_fail_mail_that_finds_no_connection() -> None:
    rig = DeliveryRig([1], rules=rules(("connect", "/refused/ bounce-queue")))
    async with rig:
        for _ in range(3):
            rig.admit()
        events = await rig.until(3)

    assert {(event.type, event.dsn_status) for event in events} == {("b", "5.4.1")}


# -- out of time -------------------------------------------------------------------------------------------


async def test_mail_that_is_too_old_ends_as_message_expired() -> None:
    queue = QueuePolicy(max_smtp_out=1, bounce_after=0.2)
    async with ScriptedServer(Script(banner=HANG)) as server, DeliveryRig([server.port], queue=queue) as rig:
        rig.admit("b@example.net", "c@example.net")
        events = await rig.until(2)

    assert {(event.type, event.dsn_status, event.bounce_category) for event in events} == {
        ("b", "4.4.7", "message-expired")
    }
    assert len(rig.returned) == 2


async def test_a_recipient_out_of_attempts_ends_as_message_expired_with_the_last_words() -> None:
    queue = QueuePolicy(max_smtp_out=1, max_retries=1)
    script = Script(RCPT="450 4.2.1 full of joy")
    async with ScriptedServer(script) as server, DeliveryRig([server.port], queue=queue) as rig:
        rig.admit()
        event = (await rig.until(1))[0]

    assert (event.type, event.dsn_status, event.bounce_category) == ("b", "4.4.7", "message-expired")
    assert event.dsn_diag == "smtp;450 4.2.1 full of joy"


# -- our own trouble ---------------------------------------------------------------------------------------


async def test_a_damaged_message_is_left_out_and_the_others_go(caplog: pytest.LogCaptureFixture) -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        bad = rig.admit()
        load = rig.store.load

        def damaged(message: int) -> object:
            if message == bad:
                raise SpoolCorrupt("checksum")
            return load(message)

        rig.store.load = damaged  # type: ignore[method-assign,assignment]
        rig.admit()
        await rig.until(1)

    assert rig.kinds() == ["d"]
    assert (bad, 0) in rig.store.waiting  # on disk it stays as it is
    assert "damaged" in caplog.text


async def test_a_message_that_can_not_be_read_now_is_tried_later() -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        rig.store.load_error = SpoolError("input/output error")
        rig.admit()
        while not server.connections:
            await rig.turn()
        await rig.until_idle()

        assert rig.events == []
        assert next(rig.scheduler.queues(rig.clock.now())).deferred == 1


async def test_a_contradiction_ends_the_run() -> None:
    async with ScriptedServer() as server:
        rig = DeliveryRig([server.port])
        run = asyncio.get_running_loop().create_task(rig.dispatcher.run())
        rig.admit()
        settle = rig.scheduler.settle

        def settle_twice(*arguments):  # type: ignore[no-untyped-def]
            settle(*arguments)
            return settle(*arguments)

        rig.scheduler.settle = settle_twice  # type: ignore[method-assign]

        with pytest.raises(Contradiction):
            await asyncio.wait_for(run, 5)


async def test_an_unforeseen_error_while_opening_makes_the_queue_wait(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with DeliveryRig([1]) as rig:
        rig.routes.error = ZeroDivisionError()  # type: ignore[assignment]
        rig.admit()
        while "ZeroDivisionError" not in caplog.text:
            await rig.turn()

        assert next(rig.scheduler.queues(rig.clock.now())).state == "retry"


# -- reports -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("offers", "script", "notify", "actions"),
    [
        (("DSN",), {}, Notify.SUCCESS, []),
        ((), {}, Notify.SUCCESS, ["relayed"]),
        ((), {}, 0, []),
        ((), {"RCPT": "550 5.1.1 no"}, 0, ["failed"]),
        ((), {"RCPT": "450 4.2.1 later"}, 0, []),
        ((), {"RCPT": "450 4.2.1 later"}, Notify.DELAY, ["delayed"]),
    ],
)
async def test_reports_are_offered_where_somebody_may_want_them(
    offers: tuple[str, ...], script: dict[str, object], notify: int, actions: list[str]
) -> None:
    async with ScriptedServer(Script(offers=offers, **script)) as server, DeliveryRig([server.port]) as rig:
        rig.admit(notify=int(notify))
        await rig.until(1)

    assert [returned.event.dsn_action for returned in rig.returned] == actions


async def test_a_null_return_path_gets_no_report() -> None:
    async with ScriptedServer(Script(RCPT="550 5.1.1 no")) as server, DeliveryRig([server.port]) as rig:
        rig.admit(originator="")
        await rig.until(1)

    assert rig.returned == []
    assert server.attempts[0].originator == ""


async def test_records_that_nobody_wants_are_not_written_but_the_outcome_is() -> None:
    policy = replace(PATIENT, disabled_records=frozenset({"d", "b", "t", "tq"}))
    script = Script(RCPT=["250 ok", "550 5.1.1 no", "450 4.2.1 later"])
    async with ScriptedServer(script) as server, DeliveryRig([server.port], policy=policy) as rig:
        rig.admit("b@example.net", "c@example.net", "d@example.net")
        while rig.store.waiting != {(1, 2)} or not rig.store.deferrals:
            await rig.turn()

    assert rig.events == []


async def test_what_is_recorded_of_a_delivery() -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        rig.admit(
            job_id="job",
            envelope_id="env",
            vmta_pool="pool",
            source_mta="app (10.0.0.1)",
            source_user="me",
            source_ip="10.0.0.1",
            received_on="10.0.0.2",
            captured={"x-tag": "t"},
        )
        event = (await rig.until(1))[0]

    assert event.queue == "example.net/v1"
    assert (event.job_id, event.envelope_id, event.vmta, event.vmta_pool) == ("job", "env", "v1", "pool")
    assert (event.source_mta, event.source_user) == ("app (10.0.0.1)", "me")
    assert (event.received_source_ip, event.received_destination_ip) == ("10.0.0.1", "10.0.0.2")
    assert (event.delivery_type, event.dsn_diag) == ("smtp", "smtp;250 2.0.0 queued")
    assert event.bounce_category == "success"
    assert event.queue_id == "Q1"
    assert event.captured == {"x-tag": "t"}
    assert event.time_first_attempt >= event.time_queued
    assert re.fullmatch(r"[0-9a-f]+-1", event.event_id)


async def test_event_ids_are_unique() -> None:
    script = Script(RCPT=["250", "550", "450"])
    async with ScriptedServer(script) as server, DeliveryRig([server.port]) as rig:
        rig.admit("b@example.net", "c@example.net", "d@example.net")
        events = await rig.until(3)

    assert len({event.event_id for event in events}) == 3


# -- the end -----------------------------------------------------------------------------------------------


async def test_draining_gives_up_connections_that_are_still_being_opened() -> None:
    async with ScriptedServer(Script(banner=HANG)) as server, DeliveryRig([server.port]) as rig:
        rig.admit()
        while not server.open:
            await rig.turn()
        assert repr(rig.dispatcher) == "<Dispatcher 0 working, 0 resting, 1 opening>"
        await rig.dispatcher.drain(rig.clock.now() + 5.0)

        assert rig.open() == 0
        assert len(rig.store.waiting) == 1
        assert rig.events == []


async def test_nothing_is_opened_any_more_while_draining() -> None:
    async with ScriptedServer() as server, DeliveryRig([server.port]) as rig:
        await rig.dispatcher.drain(rig.clock.now() + 1.0)
        rig.admit()
        await rig.turn()

        assert server.connections == 0


async def test_a_hundred_hanging_destinations_do_not_hold_up_a_healthy_one() -> None:
    async with ScriptedServer(Script(banner=HANG)) as bad, ScriptedServer() as good:
        rig = DeliveryRig([bad.port])
        targets = {"good.example": [rig.routes.targets[0]._replace(port=good.port)]}

        async def route(key: QueueKey):  # type: ignore[no-untyped-def]
            return targets.get(key.domain, rig.routes.targets)

        rig.routes.route = route  # type: ignore[method-assign]
        async with rig:
            for number in range(90):
                rig.admit(domain=f"bad{number}.example")
            for _ in range(50):
                rig.admit("b@good.example", domain="good.example")
            await rig.until(50)

            assert rig.kinds() == ["d"] * 50
            assert rig.dispatcher.stats().opening == 90
