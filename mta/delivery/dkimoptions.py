"""What the header X-DKIM-Options of one message wants: which identity and key sign it, and how.

    X-DKIM-Options: d=example.com; s=march; c=relaxed/simple

`i=` is the identity, `d=` the domain where that says no more, `s=` the selector of the key, `c=` the
canonicalisation, `key-list=` a `<domain-key-list>` to look in instead of the virtual MTA's keys. With
X-DKIM-Key the key comes along, and then `s=` must as well. Tags that nobody knows mean nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from mta.delivery.signingrule import Identity
from mta.errors import ConfigError
from mta.message.canonical import Canon
from mta.message.dkim import SignPolicy
from mta.message.domainkey import DkimKey, parse_private_key

__all__ = ["DkimOptions"]

_CANONS = {canon.value.decode(): canon for canon in Canon}
_ARMOUR = re.compile(r"-----[A-Z ]+-----")
_KINDS = ("PRIVATE KEY", "RSA PRIVATE KEY")


@dataclass(frozen=True, slots=True)
class DkimOptions:
    """The tags of one header; what it does not name is as the queue's rule has it."""

    identity: Identity | None = None
    selector: str = ""
    key_list: str = ""
    header_canon: Canon | None = None
    body_canon: Canon | None = None

    @classmethod
    def parse(cls, text: str) -> DkimOptions:
        """Read the value of the header; never fails, because mail must not be lost for a wrong tag."""
        tags = {}
        for part in text.split(";"):
            name, equals, value = part.partition("=")
            if equals:
                tags[name.strip().lower()] = value.strip()
        who = tags.get("i") or tags.get("d")
        header_canon, _, body_canon = tags.get("c", "").lower().partition("/")
        return cls(
            Identity(who) if who else None,
            tags.get("s", ""),
            tags.get("key-list", ""),
            _CANONS.get(header_canon),
            _CANONS.get(body_canon),
        )

    def applied(self, policy: SignPolicy) -> SignPolicy:
        """The queue's policy with what this message wants otherwise."""
        return replace(
            policy,
            header_canon=self.header_canon or policy.header_canon,
            body_canon=self.body_canon or policy.body_canon,
        )

    def own_key(self, text: str, domain: str) -> DkimKey:
        """The key that came along in X-DKIM-Key: PEM whose line ends the header has eaten, or its base64.

        Raises ConfigError when it is none, or nobody says under which selector it is published.
        """
        if not self.selector:
            raise ConfigError("X-DKIM-Key needs s= in X-DKIM-Options")
        bare = "".join(_ARMOUR.sub("", text).split())
        lines = "\n".join(bare[at : at + 64] for at in range(0, len(bare), 64))
        for kind in _KINDS:
            pem = f"-----BEGIN {kind}-----\n{lines}\n-----END {kind}-----\n"
            try:
                return DkimKey(self.selector, domain, parse_private_key(pem.encode("ascii", "replace")))
            except ConfigError as error:
                failure = error
        raise failure
