"""A live connection to a receiver: it draws messages, pipelines their transactions, says what came of them.

Driven by callbacks only: no task, no future and no timer of its own per message. What a reply means is
decided in `smtp/transaction`, what becomes of a recipient in `settlement`; this shell writes, reads and
keeps time.

Theory of operation. `_awaiting` holds what the server still owes replies for, oldest first: a transaction, or
None for a RSET. When the server has said 354 the body is written, and behind its final dot the envelope of
the next message (RFC 2920 3.1), so that at most two transactions are under way: one that waits for the
dot's reply and one whose envelope is out. Bodies over one chunk are fed in as the transport drains, so that
a connection never holds more than `HIGH_WATER` of unsent bytes beside the body itself.

The deadline moves with every reply, not with every byte: a server that sends one byte a second is given up
all the same.

Hot path: one `data_received` per message; benchmarks/micro/bench_delivery.py.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import Final, Protocol

from mta.clock import Clock
from mta.delivery.attempt import Attempt
from mta.delivery.connection import Connection
from mta.delivery.deadline import Deadline
from mta.delivery.policy import DeliveryPolicy
from mta.errors import Contradiction, LocalProtocolError, RemoteProtocolError
from mta.queue.slot import Slot
from mta.smtp.reply import Reply
from mta.smtp.replyparser import Phrasebook, ReplyParser
from mta.smtp.transaction import Fate, Move, Stage, internal_reply

__all__ = ["Session", "Supply"]

log = logging.getLogger(__name__)

#: Bodies are written in pieces of this size; smaller ones at once, with the envelope behind them.
CHUNK: Final = 64 * 1024
#: Unsent bytes after which the transport asks us to stop.
HIGH_WATER: Final = 128 * 1024
#: Pieces written in one turn of the loop, however fast the network: others want to send too.
PIECES_AT_ONCE: Final = 16
#: A queue that is empty for a blink must not cost a new connection (seconds).
LINGER: Final = 0.2
#: How long a connection outlives a rate limit that stops it (seconds).
RATE_PATIENCE: Final = 5.0
#: What a PIX firewall gets to send the body on before the final dot comes (seconds).
PIX_PAUSE: Final = 0.1
#: How long the answer to QUIT is waited for (seconds).
QUIT_PATIENCE: Final = 5.0
#: Messages that the server's offers rule out, dealt with in one turn of the loop.
REFUSALS_AT_ONCE: Final = range(16)
#: A whole envelope may take so many times the time of one command.
ENVELOPE_FACTOR: Final = 4

#: How far a session is: it takes messages, has said QUIT, or sends and believes nothing any more.
_AT_WORK, _QUITTING, _OVER = range(3)
_WAIT, _WRITE, _BODY, _SEND_DOT, _DONE = Move
_MAIL, _END = Stage.MAIL, Stage.END


class Supply(Protocol):
    """Where messages come from and where their results go; the dispatcher."""

    def next_attempt(self, session: Session) -> Attempt | None:
        """The next message for this connection, None for none now. Called in the reply callback."""
        ...

    def conclude(self, session: Session, attempt: Attempt) -> None:
        """Every recipient of `attempt` has its outcome."""
        ...

    def closed(self, session: Session) -> None:
        """The connection is gone; called once, after the last `conclude`."""
        ...

    def contradiction(self, error: Contradiction) -> None:
        """Our own state contradicts itself: the worker must go."""
        ...


class Session(asyncio.Protocol):
    """One connection at work. `begin` starts it; from there on it runs until `Supply.closed`."""

    # More than thirty attributes: without slots look-ups would go through a dictionary of each one's own.
    # fmt: off
    __slots__ = (
        "_at_once", "_awaiting", "_clock", "_deadline", "_dots_alone", "_envelope_until", "_errors",
        "_in_chunks", "_is_closed", "_is_draining", "_is_paused", "_loop", "_most_errors", "_offset",
        "_parser", "_patience_at_rest", "_patience_with_end", "_patience_with_envelope", "_phase",
        "_pipelining", "_sending", "_supply", "_transport", "completed", "connection", "delivered",
        "extensions", "facts", "is_host_unwanted", "is_resting", "most_recipients", "now", "policy",
        "queue_name", "slot",
    )
    # fmt: on

    def __init__(
        self,
        connection: Connection,
        slot: Slot,
        policy: DeliveryPolicy,
        supply: Supply,
        *,
        clock: Clock,
        loop: asyncio.AbstractEventLoop,
        phrases: Phrasebook | None = None,
    ) -> None:
        self.connection = connection
        self.extensions = connection.extensions
        self.facts = connection.facts()
        self.slot = slot
        self.queue_name = str(slot.key)
        self.policy = policy
        self.now = clock.now()  # when that happened which is being dealt with
        self.completed = 0  # transactions that ended by the server's word
        self.delivered = 0  # recipients
        self.most_recipients = 0  # that the receiver takes in one transaction, once it has said so
        self.is_resting = False
        self.is_host_unwanted = False
        self._supply = supply
        self._clock = clock
        self._loop = loop
        self._transport = connection.transport
        self._pipelining = connection.extensions.pipelining
        self._parser = ReplyParser(phrases)
        self._errors = 0  # recipients refused
        self._most_errors = policy.max_errors_per_connection or float("inf")
        # What the server has for the end of data, and for an envelope once it is the next to be answered.
        self._patience_with_end = policy.data_termination_timeout
        self._patience_with_envelope = ENVELOPE_FACTOR * policy.command_timeout
        self._patience_at_rest = max(policy.connection_idle_timeout, LINGER)
        self._awaiting: deque[Attempt | None] = deque()
        self._sending: Attempt | None = None  # whose body is being written, or waits for its head
        self._offset = 0  # written of that body
        self._is_paused = False  # by the transport
        self._dots_alone = connection.is_pix and policy.pix_bug_workaround
        self._at_once = -1 if self._dots_alone else CHUNK  # octets of a body that go out with dot and all
        self._in_chunks = connection.extensions.chunking and not policy.ignore_chunking
        self._is_draining = False
        self._phase = _AT_WORK
        self._is_closed = False  # the supply has been told
        self._deadline = connection.deadline or Deadline(self._overdue, clock=clock, loop=loop)
        self._deadline.hand_over(self._overdue)
        self._envelope_until = 0.0

    def begin(self) -> None:
        """Take the transport over and send the first message."""
        self._transport.set_protocol(self)
        self._transport.set_write_buffer_limits(high=HIGH_WATER)
        if self._transport.is_closing():
            # It went while it was handed over; perhaps nobody tells us.
            self._loop.call_soon(self.connection_lost, None)
            return
        self._guarded(self._set_going)

    def resume(self) -> None:
        """The queue has something again: draw, as soon as there is room for it."""
        if self._phase:
            return
        if self.is_resting:
            self._guarded(self._set_going)
        elif self._pipelining and len(self._awaiting) == 1 and self._sending is None:
            first = self._awaiting[0]
            if first is not None and first.stage is _END:
                self._guarded(self._write_following)

    def drain(self) -> None:
        """Finish what is under way, then QUIT."""
        self._is_draining = True
        if self.is_resting:
            self._guarded(self._quit)

    def count_refusal(self) -> None:
        """One recipient more was refused; after so many (max-errors-per-connection) nothing more is begun."""
        self._errors += 1
        if self._errors >= self._most_errors:
            self._is_draining = True

    def leave_host(self) -> None:
        """Finish here, and go to another host next time."""
        self.is_host_unwanted = True
        self.drain()

    def cut(self, words: str = "shutting down") -> None:
        """Stop now: what has not passed its final dot counts as never tried; the rest is waited for."""
        self._is_draining = True
        self.now = self._clock.now()
        reply = internal_reply(451, "4.3.2", words)
        for attempt in list(self._awaiting):
            if attempt is not None and not (attempt.stage is _END and attempt.is_body_sent):
                self._awaiting.remove(attempt)
                attempt.abandon(reply)
                self._supply.conclude(self, attempt)
        self._sending = None
        if not self._awaiting:
            self.abort(reply)

    def abort(self, reply: Reply) -> None:
        """End it here and now; `reply` is recorded for whoever has no outcome."""
        self.now = self._clock.now()
        self._lose_all(reply)
        self._transport.abort()

    @property
    def is_waiting_for_dot(self) -> bool:
        """Whether a message was sent as a whole and the receiver has not answered."""
        return any(
            attempt is not None and attempt.stage is _END and attempt.is_body_sent
            for attempt in self._awaiting
        )

    @property
    def is_quitting(self) -> bool:
        """Whether QUIT was said, and its answer is all that is waited for."""
        return self._phase == _QUITTING

    def __repr__(self) -> str:
        if self._phase == _OVER:
            state = "over"
        elif self.is_quitting:
            state = "quitting"
        elif self.is_resting:
            state = "resting"
        else:
            first = self._awaiting[0] if self._awaiting else None
            state = f"awaiting {first.stage.name}" if first is not None else "awaiting RSET"
        return f"<Session {self.slot.key} with {self.connection.mta_name}: {state}, {self.completed} done>"

    # -- what the transport says -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self._phase != _AT_WORK:
            if self.is_quitting:
                # 221 or whatever: nothing depends on it. close() would wait for the peer's side of it.
                self._transport.abort()
            return
        self.now = self._clock.now()
        awaiting, parser = self._awaiting, self._parser
        try:
            if not awaiting:
                raise RemoteProtocolError("the receiver speaks out of turn")
            replies = parser.feed(data)
            place, count = 0, len(replies)
            while place < count:
                reply = replies[place]
                place += 1
                if not awaiting:
                    raise RemoteProtocolError(f"{reply.code} in answer to nothing")
                attempt = awaiting[0]
                if attempt is None:
                    self._after_reset(reply)
                elif (
                    attempt.stage is _MAIL
                    and place + 1 < count
                    and attempt.receive_three(reply, replies[place], replies[place + 1])
                ):
                    place += 2
                    self._begin_body(attempt)
                elif (move := attempt.receive(reply)) is not _WAIT:
                    self._follow(attempt, move)
                if self._phase:
                    return
            if parser.broken is not None:
                raise parser.broken
            if awaiting:
                if replies:
                    self._await_reply()
            elif not parser.is_idle:
                raise RemoteProtocolError("the receiver speaks out of turn")
        except Exception as error:
            self._go_wrong(error)

    def eof_received(self) -> bool:
        if not self._phase:
            self._guarded(self._lose_all, internal_reply(451, "4.4.2", "connection closed by the receiver"))
        self._transport.abort()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._is_closed:
            return  # a transport that went while it was handed over tells us too
        self._is_closed = True
        self._deadline.cancel()
        try:
            if self._phase != _OVER:
                why = exc.strerror if isinstance(exc, OSError) and exc.strerror else "connection lost"
                self._guarded(self._lose_all, internal_reply(451, "4.4.2", why.lower()))
        finally:
            self._phase = _OVER
            self._supply.closed(self)

    def pause_writing(self) -> None:
        self._is_paused = True

    def resume_writing(self) -> None:
        self._is_paused = False
        if self._sending is not None and self._sending.head is not None and self._phase != _OVER:
            self._guarded(self._write_pieces)

    def _guarded(self, action: object, *arguments: object) -> None:
        """Run what may fail by the peer's fault or ours."""
        self.now = self._clock.now()
        try:
            action(*arguments)  # type: ignore[operator]
        except Exception as error:
            self._go_wrong(error)

    def _go_wrong(self, error: Exception) -> None:
        """A bug of ours costs a connection, never mail."""
        if isinstance(error, RemoteProtocolError):
            self.abort(internal_reply(451, "4.5.0", f"protocol error: {error}"))
        elif isinstance(error, Contradiction):
            self._phase = _OVER
            self.is_resting = False
            self._transport.abort()
            self._supply.contradiction(error)
        else:
            log.error("session=%r event=failed", self, exc_info=error)
            self._give_up()

    def _give_up(self) -> None:
        try:
            self._lose_all(internal_reply(451, "4.3.0", "internal error"))
        except Exception:
            log.exception("session=%r event=failed-again", self)
        self._phase = _OVER
        self._transport.abort()

    # -- replies ---------------------------------------------------------------------------------------

    def _follow(self, attempt: Attempt, move: Move) -> None:
        """Do what the oldest transaction wants done after a reply."""
        if move is _DONE:
            self._awaiting.popleft()
            self.completed += 1
            self._supply.conclude(self, attempt)
            if attempt.is_closing:
                self.abort(attempt.outcomes[-1].reply)
            elif attempt.needs_reset:
                self._reset()
            elif not self._awaiting:
                self._proceed()
        elif move is _BODY:
            self._begin_body(attempt)
        elif move is _WRITE:
            self._transport.write(attempt.take_command())
        elif move is _SEND_DOT:
            self._transport.write(b".\r\n")

    def _reset(self) -> None:
        """The next MAIL may ride with the RSET; its fate is decided by replies that come after RSET's."""
        self._awaiting.append(None)
        self._transport.write(b"RSET\r\n" + self._following())

    def _after_reset(self, reply: Reply) -> None:
        self._awaiting.popleft()
        if reply.code // 100 != 2:
            # 421, or a count that went wrong: in either case nothing here can be trusted any more.
            raise RemoteProtocolError(f"{reply.code} in answer to RSET")
        if not self._awaiting:
            self._proceed()

    # -- messages --------------------------------------------------------------------------------------

    def _set_going(self) -> None:
        """Begin with a message though no reply has come that calls for it."""
        self._proceed()
        if self._awaiting:
            self._await_reply()

    def _proceed(self) -> None:
        """Nothing is under way: begin the next message (its deadline is set by the caller), or rest."""
        if self._transport.is_closing():
            return  # connection_lost is on its way
        commands = self._draw()
        if commands:
            self.is_resting = False
            self._transport.write(commands)
        elif self._phase != _OVER:
            self._rest()

    def _draw(self) -> bytes:
        """The commands of the next message that can begin; it is awaited from now on. Nothing for none."""
        if self._is_draining:
            return b""
        for _ in REFUSALS_AT_ONCE:
            attempt = self._supply.next_attempt(self)
            if attempt is None:
                return b""
            if self._in_chunks:
                attempt.in_chunks = True
            try:
                commands = attempt.start()
                if commands:
                    self._awaiting.append(attempt)
                    return commands
            except LocalProtocolError as error:
                attempt.refuse(internal_reply(553, "5.1.3", str(error)))
            self._supply.conclude(self, attempt)
        self._loop.call_soon(self.resume)
        return b""

    def _following(self) -> bytes:
        """The commands that may ride behind what is written now."""
        # Asking for a message where there is none would make the slot idle too early.
        return self._draw() if self._pipelining and self.slot.queue.ready.runs else b""

    def _write_following(self) -> None:
        commands = self._draw()
        if commands:
            self._transport.write(commands)

    def _rest(self) -> None:
        now = self.now
        if self._is_draining or self.slot.is_retired:
            self._quit()
            return
        self.is_resting = True
        patience = self._patience_at_rest
        queue = self.slot.queue
        if queue.ready.runs:
            # Stopped by a rate: hanging up and calling again a moment later would be no politer.
            patience = max(patience, min(RATE_PATIENCE, queue.unblocks_at(now) - now + LINGER))
        self._deadline.move(now + patience, now)

    def _quit(self) -> None:
        self.is_resting = False
        self._phase = _QUITTING
        self._transport.write(b"QUIT\r\n")
        self._deadline.move(self.now + QUIT_PATIENCE, self.now)

    # -- bodies ----------------------------------------------------------------------------------------

    def signed(self, attempt: Attempt, head: bytes) -> None:
        """What goes in front of the body is ready; `attempt` may long be over."""
        attempt.put_in_front(head)
        if self._sending is attempt and self._phase != _OVER:
            self._sending = None
            self._guarded(self._begin_delayed_body, attempt)

    def _begin_delayed_body(self, attempt: Attempt) -> None:
        self._begin_body(attempt)
        self._await_reply()

    def _begin_body(self, attempt: Attempt) -> None:
        if self._in_chunks and attempt.head is not None:
            attempt.make_chunk()
        head, body = attempt.head, attempt.body
        if head is None or len(body) > self._at_once or self._is_paused:
            self._sending, self._offset = attempt, -1
            if head is not None:
                self._write_pieces()
            return
        attempt.is_body_sent = True
        attempt.body = b""
        self._transport.writelines((head, body, attempt.end + self._following()))

    def _write_pieces(self, is_late: bool = False) -> None:
        """Feed a long body to the transport as far as it takes it; the dot too, if it `is_late` enough."""
        attempt = self._sending
        if attempt is None or self._phase == _OVER:
            return
        transport, body = self._transport, memoryview(attempt.body)
        for _ in range(PIECES_AT_ONCE):
            if self._is_paused:
                break
            if self._offset < 0:
                self._offset = 0
                if attempt.head:
                    transport.write(attempt.head)
            elif self._offset < len(body):
                transport.write(body[self._offset : self._offset + CHUNK])
                self._offset += CHUNK
            elif self._dots_alone and not is_late:
                # Firewalls of that kind lose the end of a message that comes in one packet with its body.
                self._loop.call_later(PIX_PAUSE, self._guarded, self._write_pieces, True)
                return
            else:
                self._sending = None
                attempt.is_body_sent = True
                attempt.body = b""
                transport.write(attempt.end + self._following())
                self._await_reply()
                return
        else:
            self._loop.call_soon(self._guarded, self._write_pieces)
        self._await_reply()

    # -- time ------------------------------------------------------------------------------------------

    def _await_reply(self) -> None:
        """Give the server its time for what it owes next; there is something that it owes."""
        now, deadline, attempt = self.now, self._deadline, self._awaiting[0]
        if self._sending is not None:
            at = now + self.policy.data_send_timeout
        elif attempt is None:
            at = now + self.policy.command_timeout
        elif attempt.stage is _END:
            at = now + self._patience_with_end
        elif attempt.stage is _MAIL:
            at = now + self.policy.command_timeout
            self._envelope_until = now + self._patience_with_envelope
        else:
            at = min(now + self.policy.command_timeout, self._envelope_until)
        deadline.at = at
        if at < deadline.looks_at:
            deadline.move(at, now)

    def _overdue(self) -> None:
        if self._phase:
            self._transport.abort()
        elif self.is_resting:
            self._guarded(self._quit)
        else:
            self._give_up_waiting()

    def _give_up_waiting(self) -> None:
        attempt = self._awaiting[0] if self._awaiting else None
        if self._sending is not None:
            words = "the receiver does not take the message in time"
        elif attempt is None:
            words = "no answer to RSET in time"
        elif attempt.stage is _END:
            words = "no answer to the end of data in time"
        else:
            words = f"no answer to {attempt.stage.name} in time"
        reply, fate = internal_reply(451, "4.4.2", words), Fate.DEFERRED
        if self.policy.assume_delivery_upon_data_termination_timeout and self.is_waiting_for_dot:
            reply, fate = internal_reply(250, "2.0.0", f"delivery assumed: {words}"), Fate.DELIVERED
        self._guarded(self._lose_all, reply, fate)
        self._transport.abort()

    # -- ends ------------------------------------------------------------------------------------------

    def _lose_all(self, reply: Reply, after_dot: Fate = Fate.DEFERRED) -> None:
        """No reply will come any more: conclude everything under way."""
        self._phase = _OVER
        self.is_resting = False
        self._sending = None
        gives_up = self.policy.bounce_upon_transfer_failure or (
            self.connection.is_pix and self.policy.bounce_upon_pix_transfer_failure
        )
        in_body = Fate.FAILED if gives_up else Fate.DEFERRED
        # Whoever stands behind another message was sent on trust; so was the first after a quiet time. On a
        # connection that has never carried anything the server's silence counts.
        untried = self.completed > 0
        while self._awaiting:
            attempt = self._awaiting.popleft()
            if attempt is not None:
                fate = after_dot if attempt.is_body_sent else in_body
                attempt.lose(reply, untried=untried, in_transfer=fate)
                self._supply.conclude(self, attempt)
                untried = True
