"""The part of a message that belongs to one worker, and how it travels to that worker.

A message is divided by the owners of its recipients' queues. Each owner gets a *share*: the envelope with
only its recipients, and the body. A share has a name (`Share.name`) made of the queue id and its recipients:
a share that arrives a second time is recognised by it, whoever sends it and after whatever accident.

On the socket a frame is a header (`HEADER`), a head and a body:

    FRESH     number of the share, head = its envelope as it is stored, body in wire form
    AGAIN     the same, head = Head in MessagePack
    TAKEN     head = the numbers of shares that are on the owner's disk, eight octets each
    REFUSED   number of the share; head = why, for the log

Pure: bytes in, bytes out.
"""

from __future__ import annotations

import enum
from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from hashlib import blake2b
from struct import Struct

import msgspec

from mta.errors import RemoteProtocolError
from mta.message.envelope import Envelope, Recipient, encode_envelope
from mta.spool.stored import Waiting

__all__ = [
    "Frame",
    "FrameReader",
    "Kind",
    "Share",
    "Verdict",
    "decode_head",
    "divide",
    "encode_answer",
    "encode_head",
    "encode_header",
    "encode_taken",
    "name_of",
    "numbers_taken",
    "share_of",
]

#: Kind, number of the share, length of the head, length of the body.
HEADER = Struct("<BQII")
HEADER_SIZE, read_header = HEADER.size, HEADER.unpack_from
MAX_HEAD = 64 << 20
MAX_BODY = 1 << 31


class Kind(enum.IntEnum):
    """What a frame says. A FRESH share was never offered before; one that comes AGAIN may have arrived."""

    FRESH = 1
    AGAIN = 2
    TAKEN = 3
    REFUSED = 4


class Verdict(enum.Enum):
    """What became of a share that was offered to its owner."""

    TAKEN = "taken"  # it is on the owner's disk
    REFUSED = "refused"  # it is not
    UNKNOWN = "unknown"  # the owner died, or is too slow: it has to be offered again


class Share(msgspec.Struct, frozen=True, gc=False):
    """What one worker gets of one message. `waiting` has only recipients that were tried before."""

    envelope: Envelope
    encoded: bytes
    body: Sequence[bytes]
    waiting: tuple[Waiting, ...] = ()

    @property
    def size(self) -> int:
        """About how many bytes it takes in memory."""
        return len(self.encoded) + sum(map(len, self.body)) + 200

    @property
    def name(self) -> str:
        """The same whenever the same recipients of the same message are offered."""
        return name_of(self.envelope)


class _Head(msgspec.Struct, array_like=True, gc=False):
    envelope: bytes
    waiting: tuple[Waiting, ...] = ()


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One frame as it was read."""

    kind: Kind
    number: int
    head: bytes
    body: bytes


#: To call the class takes many times as long.
_KINDS = {int(kind): kind for kind in Kind}
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(_Head)


def name_of(envelope: Envelope) -> str:
    """The name of the share that consists of this envelope's recipients.

    No two shares of one message may have the same: the second would be taken for the first. So a mass mailing
    that is moved recipient by recipient must not meet itself in a checksum, and one address that gets two
    personal messages must not either, nor one that was given twice (`Envelope.copies`).
    """
    recipients = envelope.recipients
    if envelope.copies:
        text = _encoder.encode((recipients, envelope.copies))
    elif envelope.is_personal:
        text = _encoder.encode(recipients)
    elif len(recipients) == 1:
        return f"{envelope.queue_id} {recipients[0].address}"
    else:
        text = "\n".join([recipient.address for recipient in recipients]).encode("utf-8", "surrogatepass")
    return f"{envelope.queue_id}{len(recipients):x} {blake2b(text, digest_size=16).hexdigest()}"


def divide(envelope: Envelope, owner: Callable[[str], int]) -> dict[int, list[int]]:
    """The indices of an envelope's recipients by the worker that owns their queues."""
    parts: dict[int, list[int]] = {}
    for index, recipient in enumerate(envelope.recipients):
        parts.setdefault(owner(recipient.queue_domain), []).append(index)
    return parts


def share_of(
    envelope: Envelope,
    encoded: bytes,
    body: Sequence[bytes],
    indices: Sequence[int],
    waiting: Sequence[Waiting] = (),
) -> Share:
    """The share of the recipients at `indices`, ascending; `waiting` speaks of indices of the whole envelope.

    It knows of each recipient how many others of the message with the same address stood before it, and so do
    the shares that are made of it later.
    """
    if len(indices) == len(envelope.recipients):
        return Share(envelope, encoded, body, tuple(waiting))
    chosen: tuple[Recipient, ...] = tuple([envelope.recipients[index] for index in indices])
    place = {index: new for new, index in enumerate(indices)}
    copies = _copies(envelope)
    if copies:
        copies = tuple([copies[index] for index in indices])
    smaller = msgspec.structs.replace(envelope, recipients=chosen, copies=copies if any(copies) else ())
    moved = tuple(Waiting(place[index], attempts, due) for index, attempts, due in waiting)
    return Share(smaller, encode_envelope(smaller), body, moved)


def _copies(envelope: Envelope) -> tuple[int, ...]:
    """How often each recipient's address stood before it in the whole message; () where all are different."""
    addresses = [recipient.address for recipient in envelope.recipients]
    if envelope.copies or len(set(addresses)) == len(addresses):
        return envelope.copies
    before: Counter[str] = Counter()
    copies = []
    for address in addresses:
        copies.append(before[address])
        before[address] += 1
    return tuple(copies)


def encode_head(share: Share) -> bytes:
    return _encoder.encode(_Head(share.encoded, share.waiting))


def decode_head(head: bytes) -> tuple[bytes, tuple[Waiting, ...]]:
    """The encoded envelope and what waits. Raises msgspec.DecodeError (a ValueError)."""
    found = _decoder.decode(head)
    return found.envelope, found.waiting


#: The header of a frame: what kind it is, the share's number, and the lengths of its head and body.
encode_header: Callable[[Kind, int, int, int], bytes] = HEADER.pack


def encode_taken(numbers: Sequence[int]) -> bytes:
    """A whole TAKEN frame about all these shares."""
    head = array("Q", numbers).tobytes()
    return HEADER.pack(Kind.TAKEN, 0, len(head), 0) + head


def numbers_taken(head: bytes) -> array[int]:
    """The shares that a TAKEN frame is about. Raises ValueError for a head that is none."""
    numbers = array("Q")
    numbers.frombytes(head)
    return numbers


def encode_answer(kind: Kind, number: int, text: str = "") -> bytes:
    """A whole REFUSED frame."""
    head = text.encode("utf-8", "replace")[:1000]
    return HEADER.pack(kind, number, len(head), 0) + head


def check_header(kind: int, head: int, body: int) -> None:
    """Whether it is worth waiting for such a frame. Raises RemoteProtocolError."""
    if kind not in _KINDS or head > MAX_HEAD or body > MAX_BODY:
        raise RemoteProtocolError("a colleague sends what is no frame")


class FrameReader:
    """Finds frames in whatever pieces the socket gives."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        #: Octets of what is not whole yet.
        self.held = 0
        self._need = HEADER_SIZE

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are whole now. Raises RemoteProtocolError for what is no frame. Hot path."""
        self._pieces.append(data)
        self.held += len(data)
        if self.held < self._need:
            return []
        data = self._pieces[0] if len(self._pieces) == 1 else b"".join(self._pieces)
        frames, kinds = list[Frame](), _KINDS
        at, start, end = 0, HEADER_SIZE, len(data)
        need = HEADER_SIZE
        while start <= end:
            kind, number, head, body = read_header(data, at)
            middle = start + head
            whole = middle + body
            known = kinds.get(kind)
            if known is None or whole > end:
                check_header(kind, head, body)
                need = whole - at
                break
            frames.append(Frame(known, number, data[start:middle], data[middle:whole]))
            at, start = whole, whole + HEADER_SIZE
        rest = data[at:] if at else data
        self._pieces = [rest] if rest else []
        self.held, self._need = len(rest), need
        return frames
