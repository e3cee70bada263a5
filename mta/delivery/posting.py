"""`type http-delivery`: messages posted to an HTTP or HTTPS endpoint.

The request is JSON, as PowerMTA sends it:

    {"msg_from": …, "rcpt_to": …,
     "content": {"email_rfc822": …, "email_rfc822_is_base64": …, "headers": [{name: value}, …]}}

and what the status of the answer means:

    2xx                            delivered
    400 406 409 413 414 415 422    this message waits (451)
    everything else                the endpoint has a problem: the queue waits (421), as it does when nobody
                                   answers, and when the certificate is not the endpoint's

Nothing ever fails for good by a status. A connection (HTTP/1.1, RFC 9112) is used again while the other side
allows it. Repeats, after a crash or an answer that was lost, carry the same Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from mta.delivery.connection import Facts
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.tls import TlsPolicy
from mta.errors import ConfigError, NetworkError, StreamError
from mta.message.envelope import Envelope
from mta.message.headers import fields, header_end
from mta.smtp.reply import Reply
from mta.smtp.transaction import internal_reply

__all__ = ["Endpoint", "Poster", "request_body"]

T = TypeVar("T")

_MESSAGE_TROUBLE = frozenset({400, 406, 409, 413, 414, 415, 422})
#: Octets of an answer's head, of its body, and of the words that are kept of it.
_HEAD_LIMIT = 32 * 1024
_BODY_LIMIT = 64 * 1024
_WORDS = 300
#: Seconds that the body of an answer may take: it is only words for the record.
_BODY_SECONDS = 5.0
#: Octets of a file of extra headers.
_EXTRA_LIMIT = 64 * 1024
#: Octets of a request written at a time.
_PIECE = 64 * 1024
#: Interim answers (1xx) that are passed over.
_INTERIM = 8

_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: ([\t\x20-\xff]*))?")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t\x20-\xff]*)")
_NAME = re.compile(r"[A-Za-z0-9.\-]+|[0-9A-Fa-f:.]+")
#: Fields of the request that are ours alone.
_OURS = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where `http-delivery-url` leads."""

    host: str
    port: int
    path: str
    is_tls: bool

    @classmethod
    def from_url(cls, url: str) -> Endpoint:
        """Read an absolute URL. Raises ConfigError with a sentence for the operator."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
        except ValueError as error:
            raise ConfigError(f"http-delivery-url {url!r}: {error}") from error
        if parts.scheme not in ("http", "https") or not _NAME.fullmatch(host):
            raise ConfigError("type http-delivery needs an http-delivery-url with http:// or https://")
        if parts.username is not None or parts.password is not None:
            raise ConfigError("http-delivery-url: a login belongs into http-delivery-extra-headers")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        if not path.isascii() or not path.isprintable() or " " in path:
            raise ConfigError("http-delivery-url: only ASCII without blanks (write others as %XX)")
        is_tls = parts.scheme == "https"
        return cls(host, port or (443 if is_tls else 80), path, is_tls)

    @property
    def authority(self) -> str:
        """The value of Host."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.is_tls else 80) else f"{host}:{self.port}"


class HttpLine:
    """One connection to an endpoint for one request after the other; opened when it is needed."""

    def __init__(self, endpoint: Endpoint, policy: DeliveryPolicy, tls: ssl.SSLContext | None) -> None:
        """`tls` verifies the endpoint of an https URL."""
        self._endpoint = endpoint
        self._policy = policy
        self._tls = tls if endpoint.is_tls else None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._was_cancelled = False
        self.ip = self.tls_protocol = self.tls_cipher = ""

    async def post(self, lines: Sequence[bytes], body: bytes) -> Reply:
        """Post `body` with further header lines; what became of it as a reply.

        Cancelled before the request is out it is as if nothing had happened; later it waits for the answer,
        until it is cancelled again.
        """
        while True:
            is_fresh = self._writer is None
            try:
                await self._send(lines, body)
                return await self._answer()
            except NetworkError as error:
                self.close()
                # A connection that rested may have been closed by the other side, which has seen nothing.
                if is_fresh or not isinstance(error, StreamError):
                    return internal_reply(421, "4.4.2", f"{self._endpoint.authority}: {error}")

    def close(self) -> None:
        """Drop the connection."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    # -- inside -----------------------------------------------------------------------------------------

    async def _insist(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` gives, also when the task is cancelled once: the endpoint has the message, and who does
        not wait for its word sends it twice. What is read must not get lost when `read` is cancelled."""
        try:
            return await read()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or self._was_cancelled:
                raise
            self._was_cancelled = True
            task.uncancel()
            return await read()

    async def _send(self, lines: Sequence[bytes], body: bytes) -> None:
        """The whole request; raises NetworkError, a StreamError when the connection breaks."""
        endpoint, policy = self._endpoint, self._policy
        head = b"POST %b HTTP/1.1\r\nHost: %b\r\n%bContent-Length: %d\r\n\r\n" % (
            endpoint.path.encode("ascii"),
            endpoint.authority.encode("ascii"),
            b"".join(lines),
            len(body),
        )
        try:
            if self._writer is None:
                async with asyncio.timeout(policy.connect_timeout):
                    await self._open()
            assert self._writer is not None
            self._writer.write(head)
            for start in range(0, len(body), _PIECE):
                self._writer.write(body[start : start + _PIECE])
                async with asyncio.timeout(policy.data_send_timeout):
                    await self._writer.drain()
        except TimeoutError as error:
            what = "no connection" if self._writer is None else "it does not take the request"
            raise NetworkError(f"{what} in time") from error
        except ssl.SSLCertVerificationError as error:
            raise NetworkError(f"certificate not accepted: {error.verify_message}") from error
        except ConnectionError as error:
            raise StreamError(error.strerror or "the connection broke") from error
        except OSError as error:
            raise NetworkError(error.strerror or str(error)) from error

    async def _open(self) -> None:
        endpoint = self._endpoint
        self._reader, self._writer = await asyncio.open_connection(
            endpoint.host,
            endpoint.port,
            ssl=self._tls,
            server_hostname=endpoint.host if self._tls is not None else None,
            limit=_HEAD_LIMIT,
        )
        peer = self._writer.get_extra_info("peername")
        self.ip = str(peer[0]) if peer else ""
        cipher = self._writer.get_extra_info("cipher")
        if cipher:
            self.tls_cipher, self.tls_protocol = cipher[0], cipher[1]

    async def _answer(self) -> Reply:
        """The answer as a reply; raises NetworkError when there is none that can be read."""
        loop = asyncio.get_running_loop()
        try:
            deadline = loop.time() + self._policy.data_termination_timeout
            status, reason, words, is_kept = await self._read_answer(deadline)
        except TimeoutError as error:
            raise NetworkError("no answer in time") from error
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise StreamError("the connection broke before the answer") from error
        except (asyncio.LimitOverrunError, OSError, ValueError) as error:
            raise NetworkError(f"no answer of HTTP/1.1: {error}") from error
        finally:
            task = asyncio.current_task()
            if self._was_cancelled and task is not None:
                self._was_cancelled = False
                loop.call_soon(task.cancel)
        if not is_kept:
            self.close()
        said = " ".join(filter(None, [f"HTTP {status}", reason, words]))
        text = f"{self._endpoint.authority}: {said}"
        if status // 100 == 2:
            return internal_reply(250, "2.0.0", text)
        if status in _MESSAGE_TROUBLE:
            return internal_reply(451, "4.5.0", text)
        return internal_reply(421, "4.3.0", text)

    async def _read_answer(self, deadline: float) -> tuple[int, str, str, bool]:
        """Status, reason, the beginning of the body, and whether the connection can be used again."""
        reader = self._reader
        assert reader is not None

        async def read_head() -> bytes:
            async with asyncio.timeout_at(deadline):
                return await reader.readuntil(b"\r\n\r\n")

        async def read_body() -> bytes:
            async with asyncio.timeout_at(deadline):
                return await reader.readexactly(size)

        for _ in range(_INTERIM):
            first, *lines = (await self._insist(read_head))[:-4].split(b"\r\n")
            found = _STATUS.fullmatch(first)
            if found is None:
                raise ValueError(repr(first[:60]))
            status = int(found[1])
            if status >= 200:
                break
        else:
            raise ValueError("no end of interim answers")
        answered = {
            match[1].lower(): match[2].strip().lower() for line in lines if (match := _FIELD.fullmatch(line))
        }
        length = answered.get(b"content-length", b"")
        size, is_whole, body = 0, status == 204, b""
        if not is_whole and b"transfer-encoding" not in answered and length.isdigit():
            size = int(length[:12])
            # The rest of a long one is not waited for.
            is_whole, size = size <= _BODY_LIMIT, min(size, _BODY_LIMIT)
            deadline = min(deadline, asyncio.get_running_loop().time() + _BODY_SECONDS)
            try:
                body = await self._insist(read_body)
            except (asyncio.IncompleteReadError, TimeoutError, ConnectionError):
                is_whole = False  # the status has said it all
        is_kept = is_whole and first.startswith(b"HTTP/1.1") and answered.get(b"connection") != b"close"
        return status, _printable(found[2] or b""), _printable(body), is_kept


class Poster:
    """Posts the messages of one slot; `close` ends it."""

    def __init__(self, policy: DeliveryPolicy, contexts: dict[TlsPolicy, ssl.SSLContext]) -> None:
        """`contexts` are kept by the caller, since making one is slow."""
        self._policy = policy
        self._contexts = contexts
        self._extra: tuple[bytes, ...] = ()
        self._line: HttpLine | None = None

    async def post(self, envelope: Envelope, index: int, content: bytes) -> tuple[Reply, Facts]:
        """Post the message of one recipient; `content` is in wire form."""
        facts = Facts(delivery_type="http-delivery")
        try:
            endpoint = Endpoint.from_url(self._policy.http_url)
            line = self._line or await self._open(endpoint)
        except ConfigError as error:
            return internal_reply(421, "4.3.5", str(error)), facts
        lines = [b'Idempotency-Key: "%b-%d"\r\n' % (envelope.queue_id.encode("ascii"), index), *self._extra]
        if not any(line.lower().startswith(b"content-type:") for line in self._extra):
            lines.append(b"Content-Type: application/json\r\n")
        body = request_body(envelope.originator, envelope.recipients[index].address, content)
        reply = await line.post(lines, body)
        return reply, facts._replace(
            mta_name=f"{endpoint.host} ({line.ip})" if line.ip else endpoint.host,
            destination_ip=line.ip,
            tls_protocol=line.tls_protocol,
            tls_cipher=line.tls_cipher,
        )

    def close(self) -> None:
        """Drop the connection."""
        if self._line is not None:
            self._line.close()

    async def _open(self, endpoint: Endpoint) -> HttpLine:
        """A line for this slot. The extra headers are read for each, so that a new secret needs no reload."""
        work = partial(read_extra_headers, self._policy.http_extra_headers)
        self._extra = await asyncio.get_running_loop().run_in_executor(None, work)
        self._line = HttpLine(endpoint, self._policy, self._context() if endpoint.is_tls else None)
        return self._line

    def _context(self) -> ssl.SSLContext:
        """Verifies the endpoint: with smtp-tls-ca-file, or the authorities of this machine."""
        tls = self._policy.tls
        context = self._contexts.get(tls)
        if context is None:
            try:
                context = ssl.create_default_context(cafile=tls.ca_file or None)
                if tls.client_certificate:
                    context.load_cert_chain(tls.client_certificate)
            except OSError as error:
                raise ConfigError(f"TLS settings for the endpoint can't be used: {error}") from error
            self._contexts[tls] = context
        return context


def read_extra_headers(path: str) -> tuple[bytes, ...]:
    """The header lines of `http-delivery-extra-headers`, one a line; blocking. Raises ConfigError."""
    if not path:
        return ()
    try:
        with Path(path).open("rb") as file:
            text = file.read(_EXTRA_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"http-delivery-extra-headers {path}: {error.strerror}") from error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        found = _FIELD.fullmatch(line)
        if found is None or found[1].lower() in _OURS or len(text) > _EXTRA_LIMIT:
            # Not its text: it may hold a secret.
            raise ConfigError(f"http-delivery-extra-headers {path}: header {number} can't be sent")
    return tuple(line + b"\r\n" for line in lines)


def request_body(originator: str, address: str, content: bytes) -> bytes:
    """The JSON of one recipient's message; `content` is in wire form."""
    text = content.replace(b"\r\n.", b"\r\n")
    if text.startswith(b"."):
        text = text[1:]
    head = [
        {field.raw.partition(b":")[0].strip().decode("utf-8"): field.value.decode("utf-8", "replace")}
        for field in fields(text[: header_end(text)])
        if field.name.isascii() and field.name
    ]
    try:
        written, is_base64 = text.decode("utf-8"), False
    except UnicodeDecodeError:
        written, is_base64 = base64.b64encode(text).decode("ascii"), True
    return msgspec.json.encode(
        {
            "msg_from": originator,
            "rcpt_to": address,
            "content": {
                "email_rfc822": written,
                "email_rfc822_is_base64": is_base64,
                "headers": head,
            },
        }
    )


def _printable(text: bytes) -> str:
    """Words that can't break a line of a log."""
    decoded = text[:_WORDS].decode("utf-8", "replace")
    return " ".join("".join(c if c.isprintable() else " " for c in decoded).split())
