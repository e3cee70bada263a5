"""Sign a message with DKIM (RFC 6376; Ed25519 by RFC 8463).

What goes in is a message in canonical form (`canonical`), keys come in as objects (`domainkey`), the time as
a number. Verifying is not done here, and neither is choosing keys (`delivery/signing`). Nothing fails because
of a message: one without a From field simply gets no signature (RFC 6376 5.4 demands From in h=).

`Signable` holds what several signatures of one message share: the fields and body hashes. `DkimSigner` holds
what the signatures of one key share: everything in front of the hashes, and a `FieldPlan` for each set of
fields that its messages have. A stream of mail has few such sets, so of a message only values are looked at.

A signature has an l= tag only where the policy asks for it: it lets anybody append text to signed mail
(RFC 6376 8.2).
"""

from __future__ import annotations

import hashlib
from binascii import b2a_base64
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple

from mta.message import headers
from mta.message.canonical import KEPT_SHAPES, LARGEST_SHAPE, Canon, Signable
from mta.message.domainkey import DkimKey

__all__ = ["DkimSigner", "Draft", "FieldPlan", "SignPolicy"]

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

#: base64 octets in a line of b=: a multiple of 4 that leaves the line under 78.
SIGNATURE_LINE = 72


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


_NAME = b"DKIM-Signature: "


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
        lines = _in_lines(len(signature))(signature)
        return b"%s%s%s\r\n" % (_NAME, self.value, b"\r\n ".join(lines))


class FieldPlan(NamedTuple):
    """What becomes of the fields of every message that has these fields in this order.

    `pick` takes those to sign out of all, in the order in which they are hashed; `template` makes their
    canonical form of them; `start` is the signature's own text up to h=, that included.
    """

    pick: Callable[[tuple[bytes, ...]], tuple[bytes, ...]]
    template: bytes
    start: bytes


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
        self._is_relaxed = policy.header_canon is Canon.RELAXED
        self._has_tags = policy.add_timestamp or policy.add_body_limit or policy.expire_after is not None
        self._plans: dict[tuple[bytes, ...], FieldPlan | None] = {}

    def draft(self, message: Signable, now: float) -> Draft | None:
        """All but the key's own work on a signature; None for a message without From. Hot path."""
        policy = self._policy
        names, values = message.relaxed if self._is_relaxed else message.simple()
        try:
            plan = self._plans[names]
        except KeyError:
            plan = self._plan(names)
        if plan is None:
            return None
        digest, length = message.body_hash(policy.body_canon)
        value = b"%s%s\r\n bh=%s;\r\n b=" % (
            plan.start,
            self._tags(now, length) if self._has_tags else b"",
            digest,
        )
        # No tag has two blanks or a tab: unfolding is all that relaxing does to this field.
        own = b"dkim-signature:" + value.replace(b"\r\n", b"") if self._is_relaxed else _NAME + value
        return Draft(self.key, plan.template % plan.pick(values) + own, value)

    def _plan(self, names: tuple[bytes, ...]) -> FieldPlan | None:
        """The plan for messages with these fields, kept for the next one; None when they lack From."""
        chosen: list[tuple[int, bytes]] = []
        # From the bottom: of several fields of one name the lowest is hashed first (RFC 6376 5.4.2).
        for place in reversed(range(len(names))):
            name = names[place].rstrip(b" ").lower()
            if self._signs(name):
                chosen.append((place, name))
        listed = tuple([name for _, name in chosen])
        plan = None
        if b"from" in listed:
            plan = FieldPlan(
                _picking([place for place, _ in chosen]),
                self._template(listed),
                self._start + self._field_list(listed),
            )
        if len(names) <= LARGEST_SHAPE:
            if len(self._plans) >= KEPT_SHAPES:
                self._plans.clear()
            self._plans[names] = plan
        return plan

    def _signs(self, name: bytes) -> bool:
        if name in NEVER_SIGNED or b" " in name:
            return False
        is_wanted = self._policy.is_wanted
        return name in self._wanted or (is_wanted is not None and is_wanted(name))

    def _template(self, names: tuple[bytes, ...]) -> bytes:
        if not self._is_relaxed:
            return b"%s" * len(names)
        return b"".join([b"%s:%%s\r\n" % name.replace(b"%", b"%%") for name in names])

    def _field_list(self, names: tuple[bytes, ...]) -> bytes:
        """h= with the oversigned names behind those present, folded."""
        present = [name for name in dict.fromkeys(names) if name in OVERSIGNED_WHEN_PRESENT]
        return _fold_names((*names, *dict.fromkeys((*self._oversigned, *present))))

    def _tags(self, now: float, length: int) -> bytes:
        """What the policy adds of the hour and of the body's length."""
        text = b""
        if self._policy.add_timestamp:
            text += b" t=%d;" % now
        if self._policy.expire_after is not None:
            text += b" x=%d;" % (now + self._policy.expire_after)
        if text:
            text = b"\r\n" + text
        if self._policy.add_body_limit:
            text += b"\r\n l=%d;" % length
        return text


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
    return _fold_words(tags, used=len(_NAME))


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


def _picking(places: list[int]) -> Callable[[tuple[bytes, ...]], tuple[bytes, ...]]:
    """What takes these places out of a tuple, in this order."""
    if len(places) > 1:
        return itemgetter(*places)
    (place,) = places
    return lambda values: (values[place],)


@lru_cache(maxsize=64)
def _in_lines(length: int) -> Callable[[bytes], tuple[bytes, ...]]:
    """What breaks a signature of that length into lines."""
    starts = range(0, length, SIGNATURE_LINE)
    if len(starts) > 1:
        return itemgetter(*[slice(start, start + SIGNATURE_LINE) for start in starts])
    return lambda signature: (signature,)
