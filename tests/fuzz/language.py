"""What operators write: configuration, values, patterns, commands. They are trusted, not infallible."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import math
import re
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any

from mta.cli.sendmail import Refused, _parser, prepare
from mta.config.domainpattern import DomainPattern
from mta.config.lint import Machine, lint
from mta.config.load import load_text
from mta.config.networks import parse_network
from mta.config.quoting import quote, read_regex, split_list, split_words, unquote
from mta.config.regex import compile_pattern
from mta.config.units import (
    format_interval,
    format_rate,
    format_size,
    parse_boolean,
    parse_integer,
    parse_interval,
    parse_intervals,
    parse_rate,
    parse_size,
    parse_volume_rate,
)
from mta.errors import MtaError
from mta.queue.key import QueueKey
from mta.queue.pattern import QueuePattern
from mta.routing.policy import parse_hosts
from mta.service.admin import AdminSocket
from mta.service.channel import Channel
from mta.smtp.address import split_domain
from tests.fuzz.disk import workplace
from tests.fuzz.target import Target, sentence

__all__ = ["TARGETS"]

MACHINE = Machine()


def run_config(data: bytes) -> Hashable:
    """Never raises; every problem has its place and a sentence; a snapshot answers every question."""
    text = data.decode("utf-8", "replace")
    if "/dev" in text or "/proc" in text:
        return None  # an include of an endless file is the operator's wish
    loaded = load_text(text, directory=workplace())
    for problem in loaded.problems:
        assert problem.text
        assert problem.line >= 0
        assert problem.line <= text.count("\n") + text.count("\r") + 2
    snapshot = loaded.readable
    if loaded.snapshot is None:
        assert loaded.errors
        return tuple(problem.text[:16] for problem in loaded.problems[:6])
    for vmta in [*list(snapshot.vmtas)[:3], "{default}"]:
        for row in snapshot.effective("example.com", vmta).in_force():
            str(row)
    for row in snapshot.source("192.0.2.1").in_force(with_defaults=False):
        str(row)
    snapshot.bounce_categories()
    lint(snapshot, MACHINE)
    return len(snapshot.written), len(loaded.problems)


PARSERS: tuple[Callable[[str], Any], ...] = (
    parse_boolean,
    parse_integer,
    parse_interval,
    parse_intervals,
    parse_rate,
    parse_size,
    parse_volume_rate,
    parse_network,
    DomainPattern.parse,
    QueuePattern.parse,
    parse_hosts,
    unquote,
    split_words,
    split_list,
    read_regex,
)


def run_values(data: bytes) -> Hashable:
    text = data.decode("utf-8", "replace")
    shape = []
    for parser in PARSERS:
        try:
            found = parser(text)
        except ValueError as error:
            sentence(error, may_quote=True)
            shape.append(False)
            continue
        shape.append(True)
        if parser is parse_interval:
            assert found is None or math.isfinite(found)
            assert parse_interval(format_interval(found)) == found
        elif parser is parse_rate:
            again = parse_rate(format_rate(found))
            assert (
                again is None
                or found is None
                or math.isclose(again.count / again.per, found.count / found.per)
            )
        elif parser is parse_size:
            assert parse_size(format_size(found)) == found
        elif parser is DomainPattern.parse:
            found.matches("example.com")
        elif parser is QueuePattern.parse:
            found.matches(QueueKey("example.com", "v"))
    with contextlib.suppress(ValueError):
        assert unquote(quote(text)) == text or not text.isprintable()
    split_domain(text)
    return tuple(shape)


#: Long runs are what backtracking engines choke on.
SUBJECTS = tuple(unit * (2048 // len(unit)) for unit in ("a", "ab", "a.", "0", " ", "-", "aab "))


def run_regex(data: bytes) -> Hashable:
    """An operator's pattern runs in bounded time or is refused; `timed` measures."""
    source, _, subject = data.decode("utf-8", "replace").partition("\0")
    try:
        pattern = compile_pattern(source)
    except ValueError as error:
        return sentence(error, may_quote=True)[-20:]
    for text in (subject, *SUBJECTS, subject[:40] * (2048 // max(1, len(subject[:40])))):
        pattern.search(text)
        pattern.groups(text)
    return pattern.is_linear


async def no_answer(command: str, arguments: dict[str, Any]) -> Any:
    if command == "fail":
        raise MtaError("no")
    return {"command": command, **arguments}


def stepped(coroutine: Any) -> Any:
    """The result of a coroutine that never waits."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("it waits")


def run_control(data: bytes) -> Hashable:
    """One line to the control socket: an answer that is one line of JSON."""
    admin = AdminSocket("", no_answer)
    line = data.replace(b"\n", b" ") + b"\n"
    answer = stepped(admin._reply(line))
    assert isinstance(answer, dict)
    assert isinstance(answer["ok"], bool)
    assert b"internal error" not in repr(answer).encode()
    json.dumps(answer)
    return answer["ok"]


def run_channel(data: bytes) -> Hashable:
    """What a child process says to its supervisor: one that talks rubbish is cut off, nothing worse."""

    async def listen() -> str:
        channel = Channel(no_answer)
        reader = asyncio.StreamReader(limit=1 << 16)
        reader.feed_data(data)
        reader.feed_eof()
        async with asyncio.TaskGroup() as answers:
            await channel._read(reader, answers)
        return "end"

    return asyncio.run(listen())


def run_sendmail(data: bytes) -> Hashable:
    """Arguments between NULs, then the message: usage or a message that is safe to send."""
    *words, message = data.split(b"\0")
    arguments = [word.decode("utf-8", "surrogateescape") for word in words]
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        try:
            options = _parser("m").parse_intermixed_args(arguments)
        except SystemExit as end:
            return end.code
    try:
        made, recipients = prepare(
            message,
            options.recipients,
            sender=options.sender,
            full_name=options.full_name,
            from_header=options.t,
        )
    except Refused as refused:
        return refused.code
    left = made.replace(b"\r\n", b"")
    assert b"\r" not in left
    assert b"\n" not in left
    assert made.endswith(b"\r\n")
    block = made.partition(b"\r\n\r\n")[0].lower()
    assert not re.search(rb"(?:\A|\r\n)bcc:", block)
    for name in (b"from", b"date", b"message-id"):
        assert re.search(rb"(?:\A|\r\n)" + name + rb"[ \t]*:", block), name
    assert len(recipients) == len(set(recipients))
    return len(recipients), options.t


@cache
def examples() -> tuple[bytes, ...]:
    return (
        b"host-name mx.test\n<virtual-mta v>\nsmtp-source-host 192.0.2.1 a.example\n<domain *>\n"
        b"max-smtp-out 3\n</domain>\n</virtual-mta>\n<source 10/8>\nalways-allow-relaying yes\n</source>\n",
        b'domain-macro big a.example, b\n<domain $big>\nretry-after 5m, 10m\n</domain>\n<acct-file "a">\n'
        b"records d, b\nmove-interval 5m\n</acct-file>\n",
        b"<smtp-pattern-list p>\nreply /4\\d\\d too many/ mode=backoff\n</smtp-pattern-list>\n"
        b"<bounce-category-patterns>\n/spam/ spam-related\n</bounce-category-patterns>\n",
        b"smtp-listener 127.0.0.1:0\n<smtp-user u>\npassword p\nsource s\n</smtp-user>\nspool /tmp/x\n",
        b"<virtual-mta-pool p>\nvirtual-mta v\n</virtual-mta-pool>\n"
        b"<virtual-mta v>\ndomain-key s,*,k.pem\n</virtual-mta>\n",
    )


CONFIG_WORDS = tuple(
    b"<domain |</domain>|<virtual-mta |</virtual-mta>|<source |</source>|max-msg-rate |unlimited|10/h|5m|yes"
    b'|#|"|\\|include x\n|/re/|$|{default}|\n|<acct-file |<spool |<smtp-listener |domain-macro |lookup-mx:'
    b"|[*.]x|0/0|::/0".split(b"|")
)

TARGETS = (
    Target("config", run_config, examples(), CONFIG_WORDS, 2000),
    Target(
        "values",
        run_values,
        (
            b"1h30m",
            b"10/15min",
            b"5M",
            b"10.0.0.0/8",
            b"[*.]example.com",
            b'a "b c", d',
            b"/x/ y",
            b"lookup-mx:a:25 b",
        ),
        CONFIG_WORDS,
        200,
    ),
    Target(
        "regex",
        run_regex,
        (
            b"4\\d\\d too (many|much)\0421 too many",
            b"(?!x)a*b",
            b"(a)\\1",
            b"(?<=a)b+c",
            b"(?>a+)b",
            b"(?=a)(a|b)*c",
        ),
        (
            b"(?=",
            b"(?!",
            b"(?<=a)",
            b")*",
            b")+",
            b"\\1",
            b"|",
            b"[^a]",
            b"{2,9}",
            b".*",
            b"(?i)",
            b"(?>",
            b"a*+",
        ),
        120,
    ),
    Target(
        "control",
        run_control,
        (b'{"command": "a", "x": 1}', b'{"command": "fail"}', b"[1]", b'{"command": []}', b"[" * 400),
        (b'"command":', b"{", b"}", b"null", b"1e999", b"\\ud800"),
        500,
    ),
    Target(
        "channel",
        run_channel,
        (b'{"id": 1, "command": "a", "arguments": {}}\n', b'{"id": 1, "ok": true, "data": 1}\n'),
        (b'"id":', b'"command":', b'"arguments":', b"\n", b"null", b"[]"),
        400,
    ),
    Target(
        "sendmail",
        run_sendmail,
        (
            b"-t\0-f\0a@b.example\0\0To: c@d.example\nBcc: e@f.example\n\nx\n",
            b"-oi\0-F\0A B\0r@d.example\0no header",
            b"-N\0never\0x@y\0From: a\r\n b\r\n\r\n.\r\n",
        ),
        (b"-t\0", b"-f\0", b"-F\0", b"-i\0", b"Bcc:", b"To:", b"\n ", b"\n\n", b"\r", b"<", b">", b'"', b"="),
        800,
    ),
)
