"""Deliveries without SMTP: `type discard`, `type file`, `type pipe` and `type http-delivery`.

They go by the same permits as connections do: limits, rates, pauses and retries hold. What can't be written
or run now waits; a program says with its exit status what became of the message:

    0                          delivered
    65 67 68 69 77 100         failed: bad data, no such user, no such host, not available, not allowed
    anything else, or no end   the message waits (sysexits.h has 75 for it)

What the answers of an HTTP endpoint mean is in `mta.delivery.posting`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import signal
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Protocol

import msgspec

from mta.clock import Clock
from mta.delivery.connection import Facts
from mta.delivery.filing import append_to_mailbox, pickup_head, plain_text, write_new_file
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.posting import Poster
from mta.delivery.supply import Draws, Store, take_stored
from mta.delivery.tailoring import tailored
from mta.delivery.tls import TlsPolicy
from mta.delivery.variables import file_name, substitute, variables
from mta.message.envelope import Envelope
from mta.queue.key import RECIPIENT_MASK
from mta.queue.slot import Slot
from mta.smtp.reply import Reply
from mta.smtp.transaction import internal_reply

__all__ = ["LocalDelivery"]

log = logging.getLogger(__name__)

_FAILURES = MappingProxyType({65: "5.6.0", 67: "5.1.1", 68: "5.1.2", 69: "5.3.0", 77: "5.7.0", 100: "5.0.0"})
#: Octets of a program's words that are kept.
_WORDS = 1000


class Permits(Draws, Protocol):
    """The part of the scheduler that local deliveries need."""

    def opened(self, slot: Slot, now: float) -> None: ...
    def release(self, slot: Slot, now: float) -> None: ...


class Results(Protocol):
    """`mta.delivery.settlement.Settlement`."""

    def finish(
        self, slot: Slot, envelope: Envelope, ref: int, reply: Reply, facts: Facts, size: int
    ) -> None: ...


class LocalDelivery:
    """Works off one slot after the other; one per worker."""

    def __init__(self, *, scheduler: Permits, store: Store, settlement: Results, clock: Clock) -> None:
        self._scheduler = scheduler
        self._store = store
        self._settlement = settlement
        self._clock = clock
        self._contexts: dict[TlsPolicy, ssl.SSLContext] = {}

    async def deliver(self, slot: Slot, policy: DeliveryPolicy) -> None:
        """Deliver what the slot's queue has now, and give the slot back."""
        scheduler = self._scheduler
        scheduler.opened(slot, self._clock.now())
        poster = Poster(policy, self._contexts)
        try:
            while drawn := take_stored(scheduler, self._store, slot, self._clock.now()):
                refs, stored = drawn
                waiting = list(refs)
                try:
                    while waiting:
                        await self._one(slot, policy, poster, stored.envelope, stored.body, waiting)
                finally:
                    if waiting:
                        scheduler.put_back(slot, waiting)
                await asyncio.sleep(0)
        finally:
            poster.close()
            scheduler.release(slot, self._clock.now())

    async def _one(
        self,
        slot: Slot,
        policy: DeliveryPolicy,
        poster: Poster,
        envelope: Envelope,
        body: bytes,
        waiting: list[int],
    ) -> None:
        """Deliver to the first of those who wait; it leaves the list when its fate is settled."""
        ref = waiting[0]
        index = ref & RECIPIENT_MASK
        mine, content, _ = tailored(envelope, body, ref, policy.removed_headers)
        facts = Facts(delivery_type=policy.type)
        if policy.type == "http-delivery":
            reply, facts = await poster.post(mine, index, content)
        elif policy.type == "discard":
            code = 550 if policy.discard_as_bounce else 250
            reply = internal_reply(code, f"{code // 100}.0.0", "message discarded")
            # A record of another kind, not news for the sender.
            mine = msgspec.structs.replace(mine, suppress_dsn=True)
        else:
            values = variables(mine, index, self._clock.wall(), keeps_case=policy.keeps_case)
            if policy.type == "file":
                reply, target = await self._file(policy, values, mine, index, content)
                facts = facts._replace(mta_name=target)
            else:
                reply = await self._pipe(policy, values, content)
        waiting.pop(0)
        self._settlement.finish(slot, mine, ref, reply, facts, len(content))

    async def _file(
        self,
        policy: DeliveryPolicy,
        values: Mapping[str, str],
        envelope: Envelope,
        index: int,
        content: bytes,
    ) -> tuple[Reply, str]:
        if not policy.file_destination:
            return internal_reply(451, "4.3.5", "type file needs a file-destination"), ""
        destination = substitute(policy.file_destination, values, file_name)
        text = plain_text(content)
        work: Callable[[], Path]
        if policy.file_format == "append-mbox":
            work = partial(append_to_mailbox, destination, envelope.originator, values["ctime"], text)
        else:
            if policy.file_format == "newfile-pickup":
                text = pickup_head(envelope, index) + text
            work = partial(write_new_file, destination, f"{envelope.queue_id}-{index}", text)
        writing = asyncio.get_running_loop().run_in_executor(None, work)
        cancelled = False
        while not writing.done():
            try:
                await asyncio.wait({writing})
            except asyncio.CancelledError:
                # Half a file helps nobody, and one that nobody has recorded is delivered again.
                cancelled = True
        if cancelled:
            task = asyncio.current_task()
            assert task is not None
            asyncio.get_running_loop().call_soon(task.cancel)
        try:
            path = writing.result()
        except OSError as error:
            return internal_reply(451, "4.2.0", f"{destination}: {error.strerror or error}"), destination
        return internal_reply(250, "2.0.0", f"written to {path}"), str(path)

    async def _pipe(self, policy: DeliveryPolicy, values: Mapping[str, str], content: bytes) -> Reply:
        try:
            # No shell, and values only after the words are told apart: an address is never a command.
            words = [substitute(word, values) for word in shlex.split(policy.command)]
        except ValueError as error:
            return internal_reply(451, "4.3.5", f"command: {error}")
        if not words:
            return internal_reply(451, "4.3.5", "type pipe needs a command")
        return await run(words, plain_text(content), policy.data_termination_timeout)


async def run(words: Sequence[str], content: bytes, seconds: float) -> Reply:
    """Run a program with a message on its standard input, and read its exit status as a reply."""
    try:
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
            env={"PATH": os.environ.get("PATH", "/usr/local/bin:/usr/bin:/bin")},
        )
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        return internal_reply(451, "4.3.0", f"{words[0]}: {reason}")
    try:
        async with asyncio.timeout(seconds):
            said, _ = await process.communicate(content)
    except TimeoutError:
        return internal_reply(451, "4.3.0", f"{words[0]}: no end within {seconds:g} seconds")
    finally:
        # Whatever it has begun ends with it.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await asyncio.shield(process.wait())
    text = " ".join(
        "".join(c if c.isprintable() else " " for c in said[:_WORDS].decode("utf-8", "replace")).split()
    )
    status = process.returncode or 0
    if status == 0:
        return internal_reply(250, "2.0.0", f"delivered to {words[0]}{f': {text}' if text else ''}")
    if status in _FAILURES:
        return internal_reply(550, _FAILURES[status], f"{words[0]}: {text or f'exit status {status}'}")
    how = f"signal {-status}" if status < 0 else f"exit status {status}"
    return internal_reply(451, "4.3.0", f"{words[0]}: {how}{f', {text}' if text else ''}")
