"""What the dkim-* directives of a queue ask for, as a value.

dkim-algorithm chooses among the keys that fit: those of its kind sign, and others only where there is none of
it. rsa-sha1 stands for rsa-sha256, because RFC 8301 forbids SHA-1.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from mta.config.regex import Pattern, compile_pattern
from mta.config.settings import Settings
from mta.message.author import author_domain
from mta.message.canonical import Canon
from mta.message.dkim import SignPolicy
from mta.smtp.address import split_domain, to_ace

__all__ = ["Identity", "NamePatterns", "SigningRule"]

#: The value of dkim-identity that stands for the message's own author.
AUTHOR = "sender-or-from"


@dataclass(frozen=True, slots=True)
class Identity:
    """Who signs: `text` is an address, "@domain", a domain, or sender-or-from."""

    text: str = AUTHOR

    def domain(self, block: bytes) -> str:
        """The signing domain for a message with this header block; "" when it names none."""
        if self.text == AUTHOR:
            return author_domain(block)
        return split_domain(self.text) if "@" in self.text else to_ace(self.text)

    @property
    def tag(self) -> str:
        """The value of i=: only an identity with an @ says more than d= does."""
        return self.text if "@" in self.text else ""


@dataclass(frozen=True)
class NamePatterns:
    """Header names given as regular expressions; equal when they are written the same."""

    sources: tuple[str, ...]
    patterns: tuple[Pattern, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "patterns", tuple(map(compile_pattern, self.sources)))

    def __call__(self, name: bytes) -> bool:
        text = name.decode("ascii", "replace")
        return any(pattern.search(text) for pattern in self.patterns)


@dataclass(frozen=True, slots=True)
class SigningRule:
    """One signature (with each kind of key that fits) that a queue asks for, and the second one behind it."""

    policy: SignPolicy
    identity: Identity
    fallback: Identity | None = None
    only_when_asked: bool = False  # if-x-dkim-options-present
    second: SigningRule | None = None
    algorithm: bytes = b""  #: keys of this kind sign; b"" = an RSA and an Ed25519 key for one domain both do

    @classmethod
    def from_settings(cls, settings: Settings) -> SigningRule | None:
        """The rule of a queue; None when it does not sign.

        Raises ValueError when dkim-headers has a regular expression that does not compile.
        """
        wish = settings.text("dkim-sign").lower()
        if wish not in ("yes", "true", "if-x-dkim-options-present"):
            return None
        second = _rule(settings, "second-dkim-") if settings.boolean("second-dkim-sign") else None
        return _rule(settings, "dkim-", wish == "if-x-dkim-options-present", second)


def _rule(
    settings: Settings, prefix: str, only_when_asked: bool = False, second: SigningRule | None = None
) -> SigningRule:
    def name(directive: str) -> str:
        """The second signature has the settings of the first where it has none of its own."""
        return prefix + directive if settings.is_set(prefix + directive) else "dkim-" + directive

    listed = settings.texts(name("headers"))
    sources = tuple(entry[1:-1] for entry in listed if len(entry) > 1 and entry[0] == entry[-1] == "/")
    fallback = settings.text(name("identity-fallback"))
    policy = SignPolicy(
        header_canon=_canon(settings.text(name("headers-canon"))),
        body_canon=_canon(settings.text(name("body-canon"))),
        fields=frozenset(_header_name(entry) for entry in listed if not entry.startswith("/")),
        is_wanted=NamePatterns(sources) if sources else None,
        oversigned=tuple(map(_header_name, settings.texts(name("disallow-adding-headers")))),
        add_timestamp=settings.boolean(name("add-timestamp")),
        expire_after=settings.interval(name("expire-after")),
        query_method=settings.text(name("query-method")),
        add_body_limit=settings.boolean(name("add-body-limit")),
    )
    algorithm = name("algorithm")
    return SigningRule(
        policy,
        Identity(settings.text(name("identity")) or AUTHOR),
        Identity(fallback) if fallback else None,
        only_when_asked,
        second,
        _algorithm(settings.text(algorithm)) if settings.is_set(algorithm) else b"",
    )


def _algorithm(word: str) -> bytes:
    return b"ed25519-sha256" if word.lower() == "ed25519-sha256" else b"rsa-sha256"


def _canon(word: str) -> Canon:
    return Canon.SIMPLE if word.lower() == "simple" else Canon.RELAXED


def _header_name(entry: str) -> bytes:
    return entry.strip().rstrip(":").lower().encode("ascii", "replace")
