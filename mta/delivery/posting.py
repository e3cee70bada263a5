"""`type http-delivery`: messages posted to an HTTP or HTTPS endpoint.

The request is JSON, as PowerMTA sends it:

    {"msg_from": …, "rcpt_to": …,
     "content": {"email_rfc822": …, "email_rfc822_is_base64": …, "headers": [{name: value}, …]}}

and what the status of the answer means:

    2xx                            delivered
    400 406 409 413 414 415 422    this message waits (451)
    everything else                the endpoint has a problem: the queue waits (421), as it does when nobody
                                   answers, and when the certificate is not the endpoint's

Nothing ever fails for good by a status. A connection (HTTP/1.1, RFC 9112; h11 knows its words) is used again
while the other side allows it. Repeats, after a crash or an answer that was lost, carry the same
Idempotency-Key.
"""

from __future__ import annotations

import asyncio
import base64
import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import h11
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

Header = tuple[bytes, bytes]

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
        self._http = h11.Connection(h11.CLIENT, _HEAD_LIMIT)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._was_cancelled = False
        self.ip = self.tls_protocol = self.tls_cipher = ""

    async def post(self, headers: Sequence[Header], body: bytes) -> Reply:
        """Post `body` with further headers; what became of it as a reply.

        Cancelled before the request is out it is as if nothing had happened; later it waits for the answer,
        until it is cancelled again.
        """
        while True:
            if not await self._is_silent():
                self.close()
            is_fresh = self._writer is None
            try:
                await self._send(headers, body)
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

    async def _is_silent(self) -> bool:
        """Whether a connection that rested is as it was left: not closed, and without words that the next
        request would take for its answer."""
        if self._reader is None or self._http.trailing_data[0]:
            return False
        try:
            async with asyncio.timeout_at(0.0):
                await self._reader.read(1)
        except TimeoutError:
            return True
        except OSError:
            pass
        return False

    async def _send(self, headers: Sequence[Header], body: bytes) -> None:
        """The whole request; raises NetworkError, a StreamError when the connection breaks."""
        authority, length = self._endpoint.authority.encode("ascii"), b"%d" % len(body)
        lines = [(b"Host", authority), *headers, (b"Content-Length", length)]
        request = h11.Request(method=b"POST", target=self._endpoint.path.encode("ascii"), headers=lines)
        try:
            if self._writer is None:
                async with asyncio.timeout(self._policy.connect_timeout):
                    await self._open()
            await self._write(request)
            for start in range(0, len(body), _PIECE):
                await self._write(h11.Data(data=body[start : start + _PIECE]))
            await self._write(h11.EndOfMessage())
        except TimeoutError as error:
            what = "no connection" if self._writer is None else "it does not take the request"
            raise NetworkError(f"{what} in time") from error
        except ssl.SSLCertVerificationError as error:
            raise NetworkError(f"certificate not accepted: {error.verify_message}") from error
        except ConnectionError as error:
            raise StreamError(error.strerror or "the connection broke") from error
        except OSError as error:
            raise NetworkError(error.strerror or str(error)) from error

    async def _write(self, event: h11.Request | h11.Data | h11.EndOfMessage) -> None:
        assert self._writer is not None
        self._writer.write(self._http.send(event))
        async with asyncio.timeout(self._policy.data_send_timeout):
            await self._writer.drain()

    async def _open(self) -> None:
        endpoint = self._endpoint
        self._reader, self._writer = await asyncio.open_connection(
            endpoint.host,
            endpoint.port,
            ssl=self._tls,
            server_hostname=endpoint.host if self._tls is not None else None,
        )
        self._http = h11.Connection(h11.CLIENT, _HEAD_LIMIT)
        peer = self._writer.get_extra_info("peername")
        self.ip = str(peer[0]) if peer else ""
        cipher = self._writer.get_extra_info("cipher")
        if cipher:
            self.tls_cipher, self.tls_protocol = cipher[0], cipher[1]

    async def _answer(self) -> Reply:
        """The answer as a reply; raises NetworkError when there is none that can be read."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._policy.data_termination_timeout
        try:
            answer = await self._head(deadline)
            body = await self._body(answer, min(deadline, loop.time() + _BODY_SECONDS))
        except TimeoutError as error:
            raise NetworkError("no answer in time") from error
        except h11.RemoteProtocolError as error:
            raise NetworkError(f"no answer of HTTP/1.1: {error}") from error
        finally:
            task = asyncio.current_task()
            if self._was_cancelled and task is not None:
                self._was_cancelled = False
                loop.call_soon(task.cancel)
        if self._http.states == {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
            self._http.start_next_cycle()
        else:
            self.close()
        status = answer.status_code
        said = " ".join(filter(None, [f"HTTP {status}", _printable(answer.reason), _printable(body)]))
        text = f"{self._endpoint.authority}: {said}"
        if status // 100 == 2:
            return internal_reply(250, "2.0.0", text)
        if status in _MESSAGE_TROUBLE:
            return internal_reply(451, "4.5.0", text)
        return internal_reply(421, "4.3.0", text)

    async def _head(self, deadline: float) -> h11.Response:
        """Status and headers."""
        for _ in range(_INTERIM):
            event = await self._event(deadline)
            if isinstance(event, h11.Response):
                return event
        raise NetworkError("no end of interim answers")

    async def _body(self, answer: h11.Response, deadline: float) -> bytes:
        """The beginning of what it says; who closes or dawdles here has said what counts."""
        if not any(name in (b"content-length", b"transfer-encoding") for name, _ in answer.headers):
            deadline = 0.0  # it ends with the connection, for which we don't wait
        body = b""
        try:
            while len(body) <= _BODY_LIMIT and isinstance(event := await self._event(deadline), h11.Data):
                body += event.data
        except (TimeoutError, StreamError, h11.RemoteProtocolError):
            pass
        return body

    async def _event(self, deadline: float) -> h11.Event:
        """The next part of the answer. Raises TimeoutError, NetworkError and RemoteProtocolError."""
        while not isinstance(event := self._http.next_event(), h11.Event):
            try:
                data = await self._insist(deadline)
            except TimeoutError:
                raise
            except OSError:
                data = b""
            if not data:
                raise StreamError("the connection broke before the end of the answer")
            self._http.receive_data(data)
        return event

    async def _insist(self, deadline: float) -> bytes:
        """What comes next, also when the task is cancelled once: the endpoint has the message, and who does
        not wait for its word sends it twice."""
        assert self._reader is not None
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await self._reader.read(_PIECE)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if task is None or self._was_cancelled:
                    raise
                self._was_cancelled = True
                task.uncancel()


class Poster:
    """Posts the messages of one slot; `close` ends it."""

    def __init__(self, policy: DeliveryPolicy, contexts: dict[TlsPolicy, ssl.SSLContext]) -> None:
        """`contexts` are kept by the caller, since making one is slow."""
        self._policy = policy
        self._contexts = contexts
        self._extra: tuple[Header, ...] = ()
        self._line: HttpLine | None = None

    async def post(self, envelope: Envelope, index: int, content: bytes) -> tuple[Reply, Facts]:
        """Post the message of one recipient; `content` is in wire form."""
        facts = Facts(delivery_type="http-delivery")
        try:
            endpoint = Endpoint.from_url(self._policy.http_url)
            line = self._line or await self._open(endpoint)
        except ConfigError as error:
            return internal_reply(421, "4.3.5", str(error)), facts
        key = b'"%b-%d"' % (envelope.queue_id.encode("ascii"), index)
        headers = [(b"Idempotency-Key", key), *self._extra]
        if not any(name.lower() == b"content-type" for name, _ in self._extra):
            headers.append((b"Content-Type", b"application/json"))
        body = request_body(envelope.originator, envelope.recipients[index].address, content)
        reply = await line.post(headers, body)
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


def read_extra_headers(path: str) -> tuple[Header, ...]:
    """The headers in the file of `http-delivery-extra-headers`, one a line; blocking. Raises ConfigError."""
    if not path:
        return ()
    try:
        with Path(path).open("rb") as file:
            text = file.read(_EXTRA_LIMIT + 1)
    except OSError as error:
        raise ConfigError(f"http-delivery-extra-headers {path}: {error.strerror}") from error
    headers = []
    for number, line in enumerate(filter(None, map(bytes.strip, text.splitlines())), 1):
        found = _FIELD.fullmatch(line)
        if found is None or found[1].lower() in _OURS or len(text) > _EXTRA_LIMIT:
            # Not its text: it may hold a secret.
            raise ConfigError(f"http-delivery-extra-headers {path}: header {number} can't be sent")
        headers.append((found[1], found[2]))
    return tuple(headers)


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
