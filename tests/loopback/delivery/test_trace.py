"""One message delivered in full view: what is said, what comes of it, and that nothing else changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from mta.config.units import Rate
from mta.delivery.trace import Trace, Tracer, TraceRefused
from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy
from mta.routing.router import Target
from tests.support.delivery_rig import DeliveryRig
from tests.support.scripted_server import HANG, Script, ScriptedServer
from tests.support.service import free_port

pytestmark = pytest.mark.both_loops

KEY = QueueKey("example.net", "v1")


def tracer_of(rig: DeliveryRig) -> Tracer:
    return Tracer(
        scheduler=rig.scheduler,
        store=rig.store,
        routes=rig.routes,
        dialer=rig.dialer,
        settlement=rig.settlement,
        signer=rig.signer,
        policies=lambda key: rig.policy,
        host_name=lambda: "default.example.com",
        fatal=lambda error: pytest.fail(str(error)),
        clock=rig.clock,
    )


@asynccontextmanager
async def paused(
    script: Script | None = None, **queue: object
) -> AsyncIterator[tuple[ScriptedServer, DeliveryRig]]:
    """A queue that sends nothing by itself."""
    policy = QueuePolicy(**queue)  # type: ignore[arg-type]
    async with ScriptedServer(script or Script()) as server, DeliveryRig([server.port], queue=policy) as rig:
        rig.scheduler.pause("*/*", rig.clock.now())
        yield server, rig


def texts(trace: Trace) -> list[str]:
    return [line.text for line in trace.lines]


@pytest.mark.parametrize("kind", ["discard", "pipe", "file", "http-delivery"])
async def test_mail_that_does_not_leave_over_smtp_is_not_sent_over_it(kind: str) -> None:
    async with paused() as (server, rig):
        rig.policy = rig.with_policy(type=kind)
        rig.admit("b@example.net")
        with pytest.raises(TraceRefused, match=f"type {kind}"):
            await tracer_of(rig).trace(KEY)

        assert server.connections == 0
        assert len(rig.scheduler.entries(KEY)) == 1


async def test_a_message_of_a_paused_queue_is_delivered_and_every_line_is_shown() -> None:
    async with paused() as (server, rig):
        rig.admit("b@example.net")
        trace = await tracer_of(rig).trace(KEY)

    assert trace.delivered
    assert trace.result.startswith("delivered: 250")
    said = texts(trace)
    assert f"connecting to mx.example.net (127.0.0.1) port {server.port} from 127.0.0.1" in said
    assert ">>> EHLO out.example.com" in said
    assert ">>> RCPT TO:<b@example.net>" in said
    assert any(line.startswith("<<< 354") for line in said)
    assert any("octets of message" in line for line in said)
    assert not any("Subject: test" in line for line in said)
    assert said[-1].startswith("<<< 221") or ">>> QUIT" in said
    assert rig.kinds() == ["d"]
    assert len(server.accepted) == 1


async def test_the_message_itself_is_shown_when_asked_for() -> None:
    async with paused() as (_, rig):
        rig.admit("b@example.net")
        trace = await tracer_of(rig).trace(KEY, with_data=True)

    assert ">>> Subject: test" in texts(trace)
    assert ">>> ." in texts(trace)


async def test_hosts_are_listed_when_asked_for() -> None:
    async with paused() as (server, rig):
        rig.admit("b@example.net")
        trace = await tracer_of(rig).trace(KEY, with_resolution=True)

    assert f"host mx.example.net address 127.0.0.1 port {server.port}" in texts(trace)


async def test_a_refusal_is_settled_like_any_other() -> None:
    async with paused(Script(RCPT="550 5.1.1 nobody")) as (_, rig):
        rig.admit("b@example.net")
        trace = await tracer_of(rig).trace(KEY)

    assert not trace.delivered
    assert trace.result == "1 failed: 550 5.1.1 nobody"
    assert rig.kinds() == ["b"]


async def test_only_one_message_is_taken_although_more_wait() -> None:
    async with paused() as (server, rig):
        rig.admit("b@example.net")
        rig.admit("c@example.net")
        await tracer_of(rig).trace(KEY)
        assert [attempt.recipients for attempt in server.accepted] == [["b@example.net"]]
        (row,) = rig.scheduler.queues(rig.clock.now())
        assert (row.waiting, row.connections) == (1, 0)


async def test_no_limit_holds_a_trace_up_but_it_counts() -> None:
    async with paused(max_msg_rate=Rate(1, 3600.0)) as (server, rig):
        rig.admit("b@example.net")
        rig.admit("c@example.net")
        tracer = tracer_of(rig)
        assert (await tracer.trace(KEY)).delivered
        assert (await tracer.trace(KEY)).delivered
        rig.admit("d@example.net")
        rig.scheduler.resume("*/*", rig.clock.now())
        rig.dispatcher.wake()
        await rig.turn()
        assert len(server.accepted) == 2


async def test_without_a_connection_nothing_has_happened() -> None:
    async with paused() as (_, rig):
        rig.routes.targets = (Target("mx.example.net", "127.0.0.1", free_port(), 0),)
        rig.admit("b@example.net")
        rig.admit("c@example.net")
        for _ in range(4):
            trace = await tracer_of(rig).trace(KEY)
            assert not trace.delivered
            assert trace.result.startswith("no connection: mx.example.net (127.0.0.1): 451 4.4.1")
        assert rig.events == []
        (row,) = rig.scheduler.queues(rig.clock.now())
        assert (row.ready, row.in_flight, row.connections, row.retry_at) == (2, 0, 0, 0.0)
        assert [entry.attempts for entry in rig.scheduler.entries(KEY)] == [0, 0]


async def test_a_recipient_in_its_own_retry_time_is_only_taken_when_asked_for() -> None:
    async with paused() as (_, rig):
        message = rig.admit("b@example.net")
        (ref,) = rig.scheduler.remove(KEY, {message << 16})
        due = rig.clock.now() + 1000.0
        rig.scheduler.admit(KEY, ref, rig.clock.now(), received=rig.clock.now(), attempts=3, due=due)
        tracer = tracer_of(rig)
        with pytest.raises(TraceRefused, match="--retry-recipients"):
            await tracer.trace(KEY)

        rig.routes.targets = (Target("mx.example.net", "127.0.0.1", free_port(), 0),)
        await tracer.trace(KEY, with_deferred=True)
        (entry,) = rig.scheduler.entries(KEY)
        assert entry.attempts == 3
        assert abs(entry.due - due) <= 1


async def test_a_silent_receiver_is_cut_off_and_the_message_stays() -> None:
    async with paused(Script(MAIL=HANG)) as (_, rig):
        rig.admit("b@example.net")
        trace = await tracer_of(rig).trace(KEY, longest=0.3)
        assert "cut off" in trace.result
        assert rig.events == []
        assert len(rig.scheduler.entries(KEY)) == 1


async def test_a_stop_ends_traces_under_way() -> None:
    async with paused(Script(MAIL=HANG)) as (server, rig):
        rig.admit("b@example.net")
        tracer = tracer_of(rig)
        running = asyncio.create_task(tracer.trace(KEY))
        while not server.seen("MAIL"):
            await rig.turn()
        await tracer.stop()
        trace = await running
        assert "stopping" in trace.result
        assert len(rig.scheduler.entries(KEY)) == 1


async def test_nothing_waits_is_said() -> None:
    async with paused() as (_, rig):
        with pytest.raises(TraceRefused, match=r"no recipient waits in example\.net/v1"):
            await tracer_of(rig).trace(KEY)


async def test_a_password_is_not_shown() -> None:
    script = Script(offers=("AUTH PLAIN",))
    async with paused(script) as (_, rig):
        rig.policy = replace(
            rig.policy, auth_username="me", auth_password="hunter2", use_unencrypted_plain_auth=True
        )
        rig.admit("b@example.net")
        trace = await tracer_of(rig).trace(KEY)

    assert ">>> AUTH PLAIN (secret)" in texts(trace)
