"""Sign a message with DKIM (RFC 6376; Ed25519 by RFC 8463).

What goes in is the message as it will go over the wire, dots stuffed; what is hashed is what the receiver
has after taking the stuffing away. Keys come in as objects (`domainkey`), the time as a number. Verifying
is not done here, and neither is choosing keys (`delivery/signing`). Nothing fails because of a message: one
without a From field simply gets no signature (RFC 6376 5.4 demands From in h=).

`Signable` holds what several signatures of one message share: the canonical fields and body hashes.
`DkimSigner` holds what the signatures of one key share: everything in front of the hashes. The body is
canonicalised in pieces by whole-buffer operations that run at C speed, because a loop over its lines would
cost as much as the RSA operation.

A signature has an l= tag only where the policy asks for it: it lets anybody append text to signed mail
(RFC 6376 8.2).
"""

from __future__ import annotations

import enum
import hashlib
import re
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from mta.message import headers
from mta.message.domainkey import DkimKey

__all__ = ["Canon", "DkimSigner", "Draft", "SignPolicy", "Signable", "hash_body"]

#: Fields that make up what a reader sees or acts on: signed wherever present (RFC 6376 5.4.1), with what
#: large receivers ask for: both List-Unsubscribe fields (RFC 8058 4) and Feedback-ID.
USUAL_FIELDS = frozenset(
    (
        b"from sender reply-to subject date message-id to cc mime-version content-type "
        b"content-transfer-encoding content-id content-description content-language in-reply-to references "
        b"resent-date resent-from resent-sender resent-to resent-cc resent-message-id "
        b"list-id list-help list-unsubscribe list-unsubscribe-post list-subscribe list-post list-owner "
        b"list-archive feedback-id"
    ).split()
)
#: Named once more than they occur, even when absent, so that nobody can add one (RFC 6376 8.15).
OVERSIGNED_FIELDS = (b"from", b"to", b"cc", b"subject", b"date", b"reply-to")
#: The same, but only when present: relays on the way are known to add them to mail that has none.
OVERSIGNED_WHEN_PRESENT = frozenset(
    (b"message-id", b"mime-version", b"content-type", b"list-unsubscribe", b"list-unsubscribe-post")
)
#: Never signed, whatever pattern the operator writes: they change on the way (RFC 6376 5.4).
NEVER_SIGNED = frozenset((b"return-path", b"received", b"dkim-signature", b"bcc", b"resent-bcc", b""))

_RUNS = re.compile(rb"  +")

#: The body is hashed in pieces of about this size, so that a 50 MB message is not copied as a whole.
PIECE = 256 * 1024
#: base64 octets in a line of b=: a multiple of 4 that leaves the line under 78.
SIGNATURE_LINE = 72
#: Distinct sets of field names for which a finished h= is kept per key; a stream of mail has a few.
FIELD_LISTS = 64


class Canon(enum.Enum):
    """How header or body are brought into a form that survives small changes (RFC 6376 3.4)."""

    SIMPLE = b"simple"
    RELAXED = b"relaxed"

    __hash__ = object.__hash__  # there is one of each; Enum's own is a function in Python


@dataclass(frozen=True, slots=True)
class SignPolicy:
    """What the dkim-* directives of one queue say about a signature.

    `fields` and `oversigned` are lower-case names; `is_wanted` answers for names matched by pattern.
    `expire_after` is in seconds, None = never; `query_method` "" leaves q= out.
    """

    header_canon: Canon = Canon.RELAXED
    body_canon: Canon = Canon.RELAXED
    fields: frozenset[bytes] = frozenset()
    is_wanted: Callable[[bytes], bool] | None = None
    oversigned: tuple[bytes, ...] = ()
    add_timestamp: bool = False
    expire_after: float | None = None
    query_method: str = ""
    add_body_limit: bool = False


class Signable:
    """One message while it is being signed, once or several times."""

    __slots__ = ("_block", "_body", "_body_hashes", "_fields", "_message")

    def __init__(self, message: bytes) -> None:
        end = headers.header_end(message)
        block = message[:end]
        if block and not block.endswith(b"\r\n"):
            block += b"\r\n"
        self._message = message
        self._block = _unstuff(block)
        self._body = min(end + 2, len(message))
        self._body_hashes: dict[Canon, tuple[bytes, int]] = {}
        self._fields: dict[Canon, list[tuple[bytes, bytes]]] = {}

    @property
    def block(self) -> bytes:
        """The header block as the receiver will have it."""
        return self._block

    def body_hash(self, canon: Canon) -> tuple[bytes, int]:
        """The values of bh=, base64, and of l=, the octets that went into it."""
        found = self._body_hashes.get(canon)
        if found is None:
            digest, length = hash_body(self._message, self._body, canon)
            found = self._body_hashes[canon] = (b2a_base64(digest, newline=False), length)
        return found

    def fields(self, canon: Canon) -> list[tuple[bytes, bytes]]:
        """Name and canonical form of every field, from the top."""
        found = self._fields.get(canon)
        if found is None:
            if canon is Canon.RELAXED:
                found = _relaxed_fields(self._block)
            else:
                found = [(field.name, field.raw) for field in headers.fields(self._block)]
            self._fields[canon] = found
        return found


class Draft(NamedTuple):
    """A signature that lacks only what the key computes: `canonical` is signed, `value` written in front."""

    key: DkimKey
    canonical: bytes
    value: bytes

    def digest(self) -> bytes:
        """The hash that is signed."""
        return hashlib.sha256(self.canonical).digest()

    def sealed(self) -> bytes:
        """The complete DKIM-Signature field. An RSA key lets other threads run meanwhile."""
        return self.sealed_with(self.key.sign(self.canonical))

    def sealed_with(self, seal: bytes) -> bytes:
        """The same, of what the key has computed elsewhere."""
        signature = b2a_base64(seal, newline=False)
        lines = [signature[at : at + SIGNATURE_LINE] for at in range(0, len(signature), SIGNATURE_LINE)]
        return b"DKIM-Signature: " + self.value + b"\r\n ".join(lines) + b"\r\n"


class DkimSigner:
    """One key, ready to sign for one d= (and i=) under one policy.

    `identity` is the value of i=, "" to leave it out, which means the same as "@" and the domain.
    """

    def __init__(self, key: DkimKey, policy: SignPolicy, *, domain: str, identity: str = "") -> None:
        self.key = key
        self.domain = domain
        self._policy = policy
        self._wanted = USUAL_FIELDS | policy.fields | frozenset(policy.oversigned)
        self._oversigned = tuple(dict.fromkeys(OVERSIGNED_FIELDS + policy.oversigned))
        self._start = _start_of_field(key, policy, domain, identity)
        self._lists: dict[tuple[bytes, ...], bytes] = {}

    def draft(self, message: Signable, now: float) -> Draft | None:
        """All but the key's own work on a signature; None for a message without From."""
        names, canonical = self._select(message)
        if b"from" not in names:
            return None
        digest, length = message.body_hash(self._policy.body_canon)
        value = b"%s%s%s%s\r\n bh=%s;\r\n b=" % (
            self._start,
            self._field_list(names),
            self._times(now),
            b"\r\n l=%d;" % length if self._policy.add_body_limit else b"",
            digest,
        )
        if self._policy.header_canon is Canon.RELAXED:
            # No tag has two blanks or a tab: unfolding is all that relaxing does to this field.
            canonical.append(b"dkim-signature:" + value.replace(b"\r\n", b""))
        else:
            canonical.append(b"DKIM-Signature: " + value)
        return Draft(self.key, b"".join(canonical), value)

    def _select(self, message: Signable) -> tuple[tuple[bytes, ...], list[bytes]]:
        """The names and canonical forms of the fields to sign, in the order in which they are hashed."""
        names: list[bytes] = []
        canonical: list[bytes] = []
        wanted, is_wanted = self._wanted, self._policy.is_wanted
        # From the bottom: of several fields of one name the lowest is hashed first (RFC 6376 5.4.2).
        for name, form in reversed(message.fields(self._policy.header_canon)):
            if name in wanted or (is_wanted is not None and is_wanted(name)):
                if name in NEVER_SIGNED:
                    continue
                names.append(name)
                canonical.append(form)
        return tuple(names), canonical

    def _field_list(self, names: tuple[bytes, ...]) -> bytes:
        """h= with the oversigned names behind those present, folded; kept for the next message like it."""
        found = self._lists.get(names)
        if found is None:
            present = [name for name in dict.fromkeys(names) if name in OVERSIGNED_WHEN_PRESENT]
            every = (*names, *dict.fromkeys((*self._oversigned, *present)))
            if len(self._lists) >= FIELD_LISTS:
                self._lists.clear()
            found = self._lists[names] = _fold_names(every)
        return found

    def _times(self, now: float) -> bytes:
        text = b""
        if self._policy.add_timestamp:
            text += b" t=%d;" % now
        if self._policy.expire_after is not None:
            text += b" x=%d;" % (now + self._policy.expire_after)
        return b"\r\n" + text if text else b""


def hash_body(message: bytes, start: int, canon: Canon) -> tuple[bytes, int]:
    """SHA-256 over the canonical form (RFC 6376 3.4.3, 3.4.4) of the body that begins at `start`, and the
    octets of that form."""
    if len(message) - start <= PIECE:
        piece = _canonical_lines(message[start:], canon)
        end = _end_of_text(piece)
        if end or canon is Canon.SIMPLE:
            end += 2
        if end < len(piece):
            piece = piece[:end]
        return hashlib.sha256(piece).digest(), end
    digest = hashlib.sha256()
    length = 0
    waiting = 0  # line ends behind the last text: hashed only when more text follows
    is_empty = True
    while start < len(message):
        end = _end_of_piece(message, start)
        piece = _canonical_lines(message[start:end], canon)
        start = end
        text = _end_of_text(piece)
        if text:
            digest.update(b"\r\n" * waiting)
            digest.update(memoryview(piece)[:text])
            length += 2 * waiting + text
            waiting, is_empty = 0, False
        waiting += (len(piece) - text) // 2
    if not is_empty or canon is Canon.SIMPLE:
        digest.update(b"\r\n")
        length += 2
    return digest.digest(), length


def _canonical_lines(lines: bytes, canon: Canon) -> bytes:
    """Whole lines of a body in canonical form, but for the empty ones at its end."""
    lines = _unstuff(lines)
    if not lines.endswith(b"\r\n"):
        lines += b"\r\n"  # the end of data is a line of its own: the receiver will see one
    return _relax_lines(lines) if canon is Canon.RELAXED else lines


def _end_of_piece(message: bytes, start: int) -> int:
    """The end of a line about PIECE octets further on."""
    if len(message) - start <= PIECE:
        return len(message)
    end = message.find(b"\r\n", start + PIECE)
    return len(message) if end < 0 else end + 2


def _unstuff(lines: bytes) -> bytes:
    """What the receiver has after RFC 5321 4.5.2: one dot less on each line that begins with one."""
    if b"." not in lines:  # ten times as fast as looking for the line end as well
        return lines
    if lines.startswith(b"."):
        lines = lines[1:]
    return lines.replace(b"\r\n.", b"\r\n") if b"\r\n." in lines else lines


def _relax_lines(lines: bytes) -> bytes:
    """Runs of blanks and tabs become one blank, those at line ends go."""
    if b"\t" in lines:
        lines = lines.replace(b"\t", b" ")
    if b" " not in lines:  # base64
        return lines
    if b"  " in lines:
        # The only regular expression over bodies: halving runs by replace until none is left takes three to
        # four times as long on indented HTML, and this one can't backtrack.
        lines = _RUNS.sub(b" ", lines)
    return lines.replace(b" \r\n", b"\r\n") if b" \r\n" in lines else lines


def _end_of_text(piece: bytes) -> int:
    """Where the line ends begin that end a piece (which ends in CRLF)."""
    end = len(piece) - 2
    while end >= 2 and piece.startswith(b"\r\n", end - 2):
        end -= 2
    return end


def _relaxed_fields(block: bytes) -> list[tuple[bytes, bytes]]:
    """RFC 6376 3.4.2 over a whole block at once: unfold, squeeze blanks, lower names."""
    if b"\t" in block:
        block = block.replace(b"\t", b" ")
    if b"\r\n " in block:
        block = block.replace(b"\r\n ", b" ")
    while b"  " in block:
        block = block.replace(b"  ", b" ")
    found = []
    for line in block.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" ").lower()
        if colon and name and b" " not in name:
            found.append((name, b"%s:%s\r\n" % (name, value.strip(b" "))))
    return found


def _start_of_field(key: DkimKey, policy: SignPolicy, domain: str, identity: str) -> bytes:
    """The tags that every signature of a signer shares, folded."""
    tags = [
        b"v=1;",
        b"a=%s;" % key.algorithm,
        b"c=%s/%s;" % (policy.header_canon.value, policy.body_canon.value),
        b"d=%s;" % domain.encode(),
        b"s=%s;" % key.selector.encode(),
    ]
    if identity:
        tags.append(b"i=%s;" % _quote(identity.encode()))
    if policy.query_method:
        tags.append(b"q=%s;" % policy.query_method.encode())
    return _fold_words(tags, used=len(b"DKIM-Signature: "))


def _fold_words(words: list[bytes], used: int) -> bytes:
    """Words joined by blanks, broken where a line would grow over 78; `used` is taken on the first line."""
    text = words[0]
    used += len(text)
    for word in words[1:]:
        if used + 1 + len(word) > headers.LINE_LENGTH:
            text += b"\r\n"
            used = 0
        text += b" " + word
        used += 1 + len(word)
    return text


def _fold_names(names: tuple[bytes, ...]) -> bytes:
    """h= on lines of its own; RFC 6376 3.5 allows folding behind each colon."""
    lines = [b" h=" + names[0]]
    for name in names[1:]:
        if len(lines[-1]) + 1 + len(name) + 1 > headers.LINE_LENGTH:
            lines[-1] += b":"
            lines.append(b" " + name)
        else:
            lines[-1] += b":" + name
    return b"\r\n" + b"\r\n".join(lines) + b";"


def _quote(identity: bytes) -> bytes:
    """dkim-quoted-printable (RFC 6376 2.11)."""
    return b"".join(
        bytes((octet,)) if 0x21 <= octet <= 0x7E and octet not in b";=" else b"=%02X" % octet
        for octet in identity
    )
