"""One DNS question to one name server: UDP, and TCP when the answer does not fit (RFC 1035, 7766).

Each question has a socket of its own, so that port and id are both unpredictable (RFC 5452), and the socket
is connected, so that the kernel drops what comes from elsewhere. A packet that is no answer to the question
(another id, another name, not DNS) is ignored and the wait goes on: whoever can forge packets must not be
able to end a look-up. Works on uvloop and on plain asyncio.
"""

from __future__ import annotations

import asyncio
import secrets
import socket

import dns.exception
import dns.flags
import dns.message
import dns.rdatatype

from mta.errors import (
    ConnectError,
    DeadlineExceeded,
    NetworkError,
    NoDescriptors,
    StreamError,
    is_shortage,
)

__all__ = ["EDNS_SIZE", "exchange", "make_question"]

#: What fits into a packet that no network cuts up (DNS flag day 2020).
EDNS_SIZE = 1232
#: No UDP packet is larger.
LARGEST_PACKET = 65535
#: The bit of the third octet of a packet that says that it is only the beginning (RFC 1035 4.1.1).
TRUNCATED = 0x02


def make_question(name: str, rdtype: dns.rdatatype.RdataType, edns_size: int) -> dns.message.QueryMessage:
    """A recursive question with a random id; `edns_size` of 0 leaves EDNS out.

    Raises ValueError when the name can't be put into a packet.
    """
    try:
        question = dns.message.make_query(
            name, rdtype, use_edns=0 if edns_size else False, payload=edns_size or None
        )
    except dns.exception.DNSException as error:
        raise ValueError(f"{name!r} is no domain name: {error}") from error
    question.id = secrets.randbelow(1 << 16)
    return question


async def exchange(
    question: dns.message.QueryMessage, server: tuple[str, int], timeout: float, *, over_tcp: bool = False
) -> dns.message.QueryMessage:
    """Ask one server and return its answer, whatever its code; `over_tcp` doesn't try UDP first.

    Raises DeadlineExceeded when none comes in `timeout` seconds, ConnectError and StreamError when the server
    can't be reached, NoDescriptors when we can't even ask.
    """
    try:
        async with asyncio.timeout(timeout):
            answer = None if over_tcp else await ask_datagram(question, server)
            if answer is None or answer.flags & dns.flags.TC:
                answer = await ask_stream(question, server)
            return answer
    except TimeoutError as error:
        raise DeadlineExceeded(f"name server {server[0]} does not answer") from error


async def ask_datagram(
    question: dns.message.QueryMessage, server: tuple[str, int]
) -> dns.message.QueryMessage | None:
    """The answer over UDP; None when it was cut off beyond reading.

    A plain socket and no transport: one that the loop still makes when its owner is cancelled stays open.
    """
    loop = asyncio.get_running_loop()
    identity = question.id.to_bytes(2, "big")
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
            sock.connect(server)
            sock.send(question.to_wire())
            while True:
                data = await loop.sock_recv(sock, LARGEST_PACKET)
                if data[:2] == identity:
                    try:
                        answer = read_answer(question, data)
                    except (dns.exception.DNSException, ValueError):
                        # Some servers cut a packet inside a record when they set the truncation bit.
                        if len(data) > 2 and data[2] & TRUNCATED:
                            return None
                    else:
                        if answer is not None:
                            return answer
                # A flood of what is no answer must not keep the loop from its other work.
                await asyncio.sleep(0)
    except OSError as error:
        raise _no_connection(server[0], error) from error


async def ask_stream(question: dns.message.QueryMessage, server: tuple[str, int]) -> dns.message.QueryMessage:
    """The answer over TCP."""
    try:
        reader, writer = await asyncio.open_connection(*server)
    except OSError as error:
        raise _no_connection(f"{server[0]} over TCP", error) from error
    try:
        wire = question.to_wire()
        writer.write(len(wire).to_bytes(2, "big") + wire)
        size = int.from_bytes(await reader.readexactly(2), "big")
        answer = read_answer(question, await reader.readexactly(size))
    except (OSError, EOFError) as error:
        raise StreamError(f"name server {server[0]} over TCP: {error}") from error
    except (dns.exception.DNSException, ValueError) as error:
        raise NetworkError(f"name server {server[0]} answers what can't be read: {error}") from error
    finally:
        writer.close()
    if answer is None:
        raise NetworkError(f"name server {server[0]} answers another question")
    return answer


def _no_connection(server: str, error: OSError) -> NetworkError:
    """What it means that a socket could not be made or connected."""
    if is_shortage(error):
        return NoDescriptors(f"no socket for name server {server}: {error.strerror or error}")
    return ConnectError(f"name server {server}: {error.strerror or error}")


def read_answer(question: dns.message.QueryMessage, wire: bytes) -> dns.message.QueryMessage | None:
    """The packet as an answer to the question; None when it answers something else.

    Raises dns.exception.DNSException or ValueError when it is no DNS packet. A server that could not read the
    question may leave it out of its answer.
    """
    answer = dns.message.from_wire(wire, ignore_trailing=True)
    if isinstance(answer, dns.message.QueryMessage) and question.is_response(answer):
        return answer
    return None
