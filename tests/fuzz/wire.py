"""What strangers say in SMTP: commands, content, replies."""

from __future__ import annotations

import re
from collections.abc import Hashable
from functools import cache
from typing import Any, cast

from mta.errors import LocalProtocolError, RemoteProtocolError
from mta.ingress.conversation import Conversation
from mta.ingress.login import Lockout
from mta.message.envelope import Envelope, Recipient
from mta.smtp.address import is_valid_mailbox, parse_path, split_domain
from mta.smtp.data import BARE_LINE_END, LINE_TOO_LONG, NUL_IN_CONTENT, TOO_BIG, ChunkReader, DataReader
from mta.smtp.extensions import PLAIN_SMTP, Extensions
from mta.smtp.params import (
    ENVID_LIMIT,
    ORCPT_LIMIT,
    decode_xtext,
    encode_xtext,
    parse_mail_parameters,
    parse_rcpt_parameters,
)
from mta.smtp.reply import Reply
from mta.smtp.replyparser import MAX_LINE, MAX_REPLY, ReplyParser
from mta.smtp.status import consistent, describe, find_enhanced
from mta.smtp.transaction import Fate, Move, Stage, Transaction, internal_reply
from tests.fuzz.target import Target, pieces, sentence
from tests.support.papercall import PaperCall, PaperTransport

__all__ = ["TARGETS"]

USERS = (
    "<smtp-user app>\npassword s3cret\nsource {app}\n</smtp-user>\n"
    "<source {app}>\nalways-allow-relaying yes\n</source>"
)
SOURCE = (
    "always-allow-relaying yes\nallow-unencrypted-plain-auth yes\nmax-message-size 3000\n"
    "max-rcpt-per-message 5"
)
_REPLY = re.compile(r"[2345][0-9][0-9][ -][ -~\u0080-\U0010ffff]*\Z")
_QUEUE_ID = re.compile(r"queued as [A-Za-z0-9_-]+")


@cache
def desk() -> PaperCall:
    """Rules and limits for all conversations of this process."""
    call = PaperCall(USERS, source=SOURCE)
    call.hang_up()
    return call


def wire_safe(body: bytes) -> None:
    """Nothing in it can be taken for the end of a message."""
    assert b"\0" not in body
    left = body.replace(b"\r\n", b"")
    assert b"\r" not in left, body[-200:]
    assert b"\n" not in left, body[-200:]
    assert not body or body.endswith(b"\r\n")
    assert b"\r\n.\r\n" not in b"\r\n" + body


def stuffed(body: bytes) -> None:
    """Safe, and every line that begins with a dot has a second one.

    Clients may leave the second one out where more follows (RFC 5321 4.5.2 takes one away all the same), so
    this holds for what we put into wire form ourselves.
    """
    wire_safe(body)
    assert all(line[:2] == b".." for line in body.split(b"\r\n") if line[:1] == b".")


def converse(segments: list[bytes]) -> tuple[list[str], bool, list[tuple[object, bytes]]]:
    """A whole conversation: replies, whether it was ended by us, what was stored."""
    call = desk()
    call.partition.stored.clear()
    call.partition.events.clear()
    call.admitted.clear()
    call.reception.lockout = Lockout()
    call.loop._timers.clear()
    call.transport = PaperTransport()
    call.conversation = Conversation(call.reception)
    call.conversation.connection_made(cast(Any, call.transport))
    call.say(*segments)
    call.loop.run()
    replies = [_QUEUE_ID.sub("queued", line) for line in call.heard()]
    is_closed = call.transport.is_closed
    call.hang_up()
    assert not call.reception.guests
    assert call.reception.receiving == 0
    stored = [
        ((one.originator, one.recipients, one.envelope_id, one.ret), body.partition(b"for <")[2][-3000:])
        for one, body in call.partition.stored
    ]
    for envelope, body in call.partition.stored:
        wire_safe(body)
        assert 1 <= len(envelope.recipients) <= 5
        for text in (envelope.originator, envelope.envelope_id, envelope.source_mta, *(
            part for one in envelope.recipients for part in (one.address, one.orcpt, one.queue_domain)
        )):  # fmt: skip
            assert "\r" not in text
            assert "\n" not in text
            assert "\0" not in text
    return replies, is_closed, cast(Any, stored)


def run_conversation(data: bytes) -> Hashable:
    replies, is_closed, stored = converse([data])
    for line in replies:
        assert _REPLY.match(line), line
        assert "Internal error" not in line, line
    assert sum(line.endswith("queued") for line in replies) == len(stored)
    assert (replies, is_closed, stored) == converse(list(pieces(data)))
    return tuple(line[:9] for line in replies[:40])


def run_envelope(data: bytes) -> Hashable:
    """Commands in the middle of a transaction, so that the fuzzer need not find the way there."""
    return run_conversation(
        b"EHLO x\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<c@d.example>\r\n" + data + b"\r\nNOOP\r\n"
    )


def run_mail_parameters(data: bytes) -> Hashable:
    try:
        found = parse_mail_parameters(data)
    except RemoteProtocolError as error:
        return sentence(error)
    assert found.envelope_id.isprintable()
    assert len(found.envelope_id) <= ENVID_LIMIT
    assert -1 <= found.size < 10**20
    return found.size >= 0, found.is_8bit, found.is_smtputf8, found.ret, bool(found.envelope_id)


def run_rcpt_parameters(data: bytes) -> Hashable:
    found = None
    for is_utf8 in (False, True):
        try:
            found = parse_rcpt_parameters(data, is_utf8=is_utf8)
        except RemoteProtocolError as error:
            sentence(error)
            continue
        assert found.orcpt.isprintable()
        assert len(found.orcpt) <= ORCPT_LIMIT + 4096
        assert 0 <= found.notify < 16
        if found.orcpt:
            text = found.orcpt.partition(";")[2]
            assert decode_xtext(encode_xtext(text).encode()).decode() == text
    return found is None or (found.notify, bool(found.orcpt))


def run_address(data: bytes) -> Hashable:
    shape = []
    for is_utf8 in (False, True):
        path = parse_path(data, is_utf8=is_utf8)
        shape.append(path is not None)
        if path is None:
            continue
        assert 0 < path.end <= len(data)
        address = path.address
        assert not re.search(r"[\r\n\0]", address)
        if not address or "@" not in address:
            assert address == "" or address.lower() == "postmaster"
            continue
        again = parse_path(b"<%b>" % address.encode(), is_utf8=is_utf8)
        assert again is not None
        assert again.address == address
        assert is_valid_mailbox(address)
        domain = split_domain(address)
        assert domain
        assert domain.isascii()
        assert domain == domain.lower()
    assert shape[0] <= shape[1]
    return tuple(shape)


_LIMIT, _LINE = 600, 78


def run_data(data: bytes) -> Hashable:
    """The reader against a model that takes its time, whole and in pieces."""
    at = (b"\r\n" + data).find(b"\r\n.\r\n")
    content = None if at < 0 else (b"\r\n" + data)[: at + 2][2:]
    verdicts = []
    for segments in ([data] if data else [], list(pieces(data)), [data[i : i + 1] for i in range(len(data))]):
        reader = DataReader(_LIMIT, _LINE)
        used, result = 0, -1
        for segment in segments:
            result = reader.feed(segment)
            if result >= 0:
                used += result
                break
            used += len(segment)
            assert reader.held <= _LIMIT + 66_000
        assert (result >= 0) is (content is not None)
        if content is None:
            continue
        assert used == len(content) + 3
        if reader.refusal is None:
            assert b"".join(reader.chunks) == content
            assert reader.size == len(content)
            assert reader.is_8bit is not content.isascii()
            wire_ok(content)
        verdicts.append(reader.refusal)
    reasons = set() if content is None else faults(content)
    for verdict in verdicts:
        assert (verdict is None) is (not reasons), (verdict, reasons)
        assert verdict is None or verdict in reasons, (verdict, reasons)
    return tuple(sorted(reply.text for reply in reasons)), content is None


def faults(content: bytes) -> set[Reply]:
    """Everything that can be said against a content."""
    found = set()
    if b"\0" in content:
        found.add(NUL_IN_CONTENT)
    left = content.replace(b"\r\n", b"")
    if b"\r" in left or b"\n" in left:
        found.add(BARE_LINE_END)
    if len(content) > _LIMIT:
        found.add(TOO_BIG)
    for line in content.split(b"\n"):
        text = line[:-1] if line.endswith(b"\r") else line
        if len(text) - (text[:1] == b".") > _LINE:
            found.add(LINE_TOO_LONG)
    return found


def wire_ok(content: bytes) -> None:
    assert b"\0" not in content
    left = content.replace(b"\r\n", b"")
    assert b"\r" not in left
    assert b"\n" not in left


def run_bdat(data: bytes) -> Hashable:
    """Chunks whose sizes the input chooses: in wire form afterwards, whatever was in them."""
    if not data:
        return None
    sizes, content = data[: 1 + data[0] % 4], data[1 + data[0] % 4 :]
    results = []
    for way in (0, 1):
        reader = ChunkReader(_LIMIT, _LINE)
        rest = content
        for size in sizes:
            chunk, rest = rest[:size], rest[size:]
            reader.expect(len(chunk))
            for piece in [chunk] if not way else list(pieces(chunk)) or [b""]:
                result = reader.feed(piece)
            assert result == len(piece)
        reader.finish()
        results.append((reader.refusal is None, b"".join(reader.chunks)))
        if reader.refusal is None:
            stuffed(b"".join(reader.chunks))
            sent = content[: sum(sizes)]
            sent = sent + b"\r\n" if sent and not sent.endswith(b"\n") else sent
            unstuffed = b"\r\n".join(line.removeprefix(b".") for line in results[-1][1].split(b"\r\n"))
            assert unstuffed == sent
    assert results[0] == results[1]
    return results[0][0], len(sizes)


def run_replies(data: bytes) -> Hashable:
    runs = []
    for segments in ([data], list(pieces(data)), list(pieces(data, 7))):
        parser = ReplyParser()
        found: list[Reply] = []
        broken = ""
        for segment in segments:
            try:
                found += parser.feed(segment)
            except RemoteProtocolError as error:
                broken = str(error)
            if parser.broken is not None:
                broken = str(parser.broken)
                break
        runs.append((tuple(found), broken))
        for reply in found:
            assert 200 <= reply.code <= 599, reply
            assert len(reply.text) <= MAX_REPLY
            status = consistent(reply.code, reply.enhanced)
            assert int(status[0]) == reply.code // 100 or reply.code // 100 == 3, (reply, status)
            assert describe(status).startswith(status)
            Extensions.parse(reply.text.split("\n"))
    assert runs[0] == runs[1] == runs[2]
    assert MAX_LINE <= MAX_REPLY
    return tuple(reply.code for reply in runs[0][0]), runs[0][1]


ENVELOPE = Envelope(
    "q1", 1.0, "a@b.example", "v", tuple(Recipient(f"r{n}@d.example", "d.example") for n in range(3))
)


def run_transaction(data: bytes) -> Hashable:
    """A server's replies, whatever they are: one outcome a recipient, and delivered only by the dot."""
    extensions = Extensions(pipelining=True) if data[:1] < b"\x80" else PLAIN_SMTP
    transaction = Transaction(ENVELOPE, ENVELOPE.recipients, 100, extensions)
    transaction.start()
    parser = ReplyParser()
    moves: list[Move] = []
    end: Reply | None = None
    try:
        for reply in parser.feed(data[1:]):
            stage = transaction.stage
            moves.append(transaction.receive(reply))
            if stage is Stage.END:
                end = reply
            if moves[-1] is Move.BODY:
                transaction.is_body_sent = True
            elif moves[-1] is Move.WRITE:
                assert transaction.take_command().endswith(b"\r\n")
            elif moves[-1] is Move.DONE:
                break
    except RemoteProtocolError:
        pass
    is_done = transaction.stage is Stage.DONE
    assert not is_done or transaction.outcomes
    transaction.lose(internal_reply(451, "4.4.2", "connection lost"))
    assert len(transaction.outcomes) == len(transaction.recipients)
    for outcome in transaction.outcomes:
        if outcome.fate is Fate.DELIVERED:
            assert end is not None
            assert end.code // 100 == 2
        if outcome.fate is Fate.FAILED:
            assert outcome.reply.code // 100 == 5
    return tuple((one.fate, one.uncertain) for one in transaction.outcomes), tuple(moves)


def run_commands_out(data: bytes) -> Hashable:
    """Addresses that hold anything: our own commands stay ours."""
    first, _, second = data.decode("utf-8", "surrogateescape").partition("|")
    envelope = Envelope("q", 1.0, first, "v", (Recipient(second, "d"),), envelope_id=second, ret=1)
    transaction = Transaction(
        envelope, envelope.recipients, 10, Extensions(pipelining=True, dsn=True, smtputf8=True)
    )
    try:
        wire = transaction.start()
    except (LocalProtocolError, UnicodeEncodeError):
        return None
    assert wire.count(b"\r\n") == 3
    assert wire.count(b"\n") == wire.count(b"\r") == 3
    return len(wire) > 100


def run_status(data: bytes) -> Hashable:
    text = data.decode("utf-8", "replace")
    found = find_enhanced(text)
    assert not found or re.fullmatch(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}", found), found
    assert describe(found).startswith(found)
    return found


SESSION = (
    b"EHLO x\r\nMAIL FROM:<a@b.example> SIZE=10 BODY=8BITMIME RET=FULL ENVID=x+20y\r\n"
    b"RCPT TO:<c@d.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;c@d.example\r\nDATA\r\nA: b\r\n\r\n..x\r\n.\r\n"
    b"RSET\r\nVRFY x\r\nHELP\r\nQUIT\r\n"
)
LOGIN = b"EHLO x\r\nAUTH PLAIN AGFwcABzM2NyZXQ=\r\nAUTH LOGIN\r\nYXBw\r\nczNjcmV0\r\n"
CHUNKED = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<c@d.example>\r\nBDAT 4\r\nA: bBDAT 5 LAST\r\n\r\n.x\r"
WORDS = tuple(
    b"EHLO |HELO |MAIL FROM:<|RCPT TO:<|DATA\r\n|BDAT |LAST|RSET\r\n|NOOP\r\n|QUIT\r\n|VRFY |AUTH PLAIN "
    b"|AUTH LOGIN|STARTTLS\r\n|\r\n.\r\n|\r\n|\n.\n|\r.\r|>\r\n|SIZE=|BODY=8BITMIME|SMTPUTF8|RET=HDRS"
    b'|ENVID=+20|NOTIFY=|ORCPT=rfc822;|@d.example|<@a,@b:|\xc3\xa5|"a\\" b"@|[IPv6:::1]|[192.0.2.1]'
    b"|\0|=|*".split(b"|")
)

TARGETS = (
    Target("conversation", run_conversation, (SESSION, LOGIN, CHUNKED), WORDS),
    Target("envelope", run_envelope, (b"DATA\r\nA: b\r\n\r\n..x\r\n.", b"BDAT 3 LAST\r\nA:"), WORDS),
    Target(
        "mail-parameters",
        run_mail_parameters,
        (b"SIZE=10 BODY=8BITMIME RET=FULL ENVID=a+2Bb AUTH=<> SMTPUTF8",),
        WORDS,
        600,
    ),
    Target(
        "rcpt-parameters", run_rcpt_parameters, (b"NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;a+40b",), WORDS, 900
    ),
    Target(
        "address",
        run_address,
        (
            b"<a@b.example>",
            b'<"a b"@[IPv6:2001:db8::1]>',
            b"<@a,@b:x@y.example>",
            "<ü@bücher.example>".encode(),
        ),
        WORDS,
        700,
    ),
    Target(
        "data",
        run_data,
        (b"A: b\r\n\r\n..x\r\n.\r\nQUIT\r\n", b".\r\n", b"x" * 80 + b"\r\n.\r\n"),
        WORDS,
        900,
    ),
    Target("bdat", run_bdat, (b"\x01\x05\x05A: b\r\n.x\r\n", b"\x02\x01\x01\x01\r\n."), WORDS, 900),
    Target(
        "replies",
        run_replies,
        (
            b"220 x\r\n250-mx\r\n250-SIZE 10\r\n250 DSN\r\n354 go\n550-5.1.1 no\r\n550 5.1.1 user\r\n",
            b"421\r\n",
        ),
        (b"250-", b"250 ", b"5.1.1 ", b"4.2.2", b"\r\n", b"\xff", b"\0"),
        40_000,
    ),
    Target(
        "transaction",
        run_transaction,
        (
            b"\0250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n354 go\r\n250 2.0.0 done\r\n",
            b"\xff250 ok\r\n452 4.5.3 many\r\n250 ok\r\n250 ok\r\n354 go\r\n451 later\r\n",
        ),
        (b"250 \r\n", b"354 \r\n", b"421 \r\n", b"550 \r\n", b"452 4.5.3\r\n", b"552 \r\n", b"250-\r\n"),
        600,
    ),
    Target(
        "commands-out",
        run_commands_out,
        (b"a@b.example|c@d.example", "ü@b|c".encode()),
        (b"\r\n", b"> "),
        300,
    ),
    Target("status", run_status, (b"550 5.1.1 user unknown", b"#5.7.1 no"), (b"5.7.1", b"."), 300),
)
