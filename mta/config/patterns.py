"""The values that pattern blocks become: reactions to replies, virtual MTA choice, categories, DKIM keys.

Reading their lines raises ValueError with a sentence for the operator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from mta.config.domainpattern import DomainPattern
from mta.config.problems import Origin
from mta.config.quoting import read_regex, split_words
from mta.config.regex import Pattern, compile_pattern
from mta.config.units import parse_integer, parse_interval

__all__ = [
    "AddressPattern",
    "BouncePattern",
    "DomainKey",
    "ReplyAction",
    "ReplyPattern",
    "read_address_pattern",
    "read_bounce_pattern",
    "read_bounce_rule",
    "read_domain_key",
    "read_reply_pattern",
]

#: Actions of <smtp-pattern-list>, and the option that may follow some of them.
REPLY_ACTIONS: Mapping[str, str] = MappingProxyType(
    {
        "mode=backoff": "backoff-to-normal-after",
        "mode=normal": "",
        "skip-mx": "",
        "bounce-queue": "",
        "bounce-rcpt": "",
        "disable-source-ip": "reenable-after",
        "defer-queue": "",
    }
)

#: The same for people.
_SPELLED = ", ".join(f"{name}[,{option}=TIME]" if option else name for name, option in REPLY_ACTIONS.items())

#: Actions of a bounce rule: final failure without or with a DSN, another try, the queue into backoff.
RULE_ACTIONS = ("delete", "bounce", "retry", "backoff")

#: Seen in files, never PowerMTA's: accepted with a warning.
FOREIGN_ACTIONS = ("mode=retry", "mode=defer", "mode=temporary")


@dataclass(frozen=True, slots=True)
class ReplyAction:
    """One thing to do, e.g. `mode=backoff` with {'backoff-to-normal-after': '1h'}."""

    name: str
    arguments: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True, slots=True)
class ReplyPattern:
    """One entry of a reply pattern list or bounce rule; the first that matches decides.

    `stage` is `reply` (any SMTP reply) or `connect` (texts of failed connections). A bounce rule is searched
    in `X.Y.Z reply` (status, then the reply as received), a list entry in the reply alone.
    """

    stage: str
    regex: Pattern
    actions: tuple[ReplyAction, ...]
    origin: Origin

    @property
    def action(self) -> str:
        """The first action's name."""
        return self.actions[0].name

    @property
    def arguments(self) -> Mapping[str, str]:
        """The first action's options."""
        return self.actions[0].arguments


@dataclass(frozen=True, slots=True)
class BouncePattern:
    """`category` for what `regex` (source text) finds in `X.Y.Z;reply`."""

    regex: str
    category: str
    origin: Origin


@dataclass(frozen=True, slots=True)
class AddressPattern:
    """One entry of a `<pattern-list>`; `kind` is header, mail-from, rcpt-to or `*`.

    Either `vmta` (virtual MTA or pool), `priority`, `call_to` (another list) or `nested` says what follows.
    """

    kind: str
    header: str
    regex: Pattern
    origin: Origin
    vmta: str = ""
    priority: int | None = None
    call_to: str = ""
    nested: tuple[AddressPattern, ...] = ()


@dataclass(frozen=True, slots=True)
class DomainKey:
    """A DKIM key for `domain` and what lies under it (`*`: all); `path` is the file (or `{vault}:...`)."""

    selector: str
    domain: str
    path: str
    origin: Origin

    def matches(self, identity: str) -> bool:
        """Whether the key may sign for the domain `identity` (lower case)."""
        return self.domain == "*" or identity == self.domain or identity.endswith("." + self.domain)


def read_reply_pattern(stage: str, value: str, origin: Origin) -> ReplyPattern:
    """`/regex/ ACTION[,ACTION...]`."""
    source, rest = read_regex(value)
    actions: list[ReplyAction] = []
    # A comma or a blank stands between an action and its option.
    for entry in rest.replace(" = ", "=").replace(",", " ").split():
        low = entry.lower()
        option, _, argument = low.partition("=")
        if low in REPLY_ACTIONS or low in FOREIGN_ACTIONS:
            actions.append(ReplyAction(low))
        elif actions and REPLY_ACTIONS.get(actions[-1].name) == option:
            parse_interval(argument)
            actions[-1] = ReplyAction(actions[-1].name, MappingProxyType({option: argument}))
        else:
            raise ValueError(f"{entry!r} is not an action: use {_SPELLED}")
    if not actions:
        raise ValueError(f"an action is missing after the regular expression: {_SPELLED}")
    return ReplyPattern(stage, compile_pattern(source), tuple(actions), origin)


def read_bounce_rule(value: str, origin: Origin) -> ReplyPattern:
    """`"regex" action ACTION`; the regex may also stand between slashes, the word `action` may be missing."""
    if value.startswith(('"', "/")):
        source, rest = read_regex(value)
    else:
        source, _, rest = value.partition(" ")
    words = split_words(rest)
    if words[:1] == ("action",):
        words = words[1:]
    if len(words) != 1 or words[0].lower() not in RULE_ACTIONS:
        raise ValueError(f'a bounce rule is: regex "PATTERN" action {" | ".join(RULE_ACTIONS)}')
    return ReplyPattern("reply", compile_pattern(source), (ReplyAction(words[0].lower()),), origin)


def read_bounce_pattern(text: str, origin: Origin) -> BouncePattern:
    """`/regex/ category`; without a category it is `other`."""
    source, category = read_regex(text)
    compile_pattern(source)
    return BouncePattern(source, category.strip() or "other", origin)


def read_address_pattern(
    kind: str, value: str, origin: Origin, nested: tuple[AddressPattern, ...]
) -> AddressPattern:
    """`header NAME /regex/ RESULT`, `mail-from /regex/ RESULT`, `rcpt-to /regex/ RESULT`, `* RESULT`."""
    header = ""
    if kind == "header":
        words = value.split(None, 1)
        if len(words) < 2:
            raise ValueError("header needs a name, a regular expression and a result")
        header, value = words[0].rstrip(":").lower(), words[1]
    source, rest = ("", value) if kind == "*" else read_regex(value)
    regex = compile_pattern(source)
    if nested:
        return AddressPattern(kind, header, regex, origin, nested=nested)
    vmta = call_to = ""
    priority: int | None = None
    for word in split_words(rest.replace(",", " ")):
        name, _, argument = word.partition("=")
        if name == "virtual-mta" and argument:
            vmta = argument
        elif name == "recipient-priority" and argument:
            priority = parse_integer(argument)
            if not 0 <= priority <= 100:
                raise ValueError("a priority is a number from 0 to 100")
        elif word.startswith("call-to:") and len(word) > 8:
            call_to = word[8:]
        else:
            raise ValueError(
                f"{word!r} is not a result: use virtual-mta=NAME, recipient-priority=N or call-to:NAME"
            )
    if not (vmta or call_to or priority is not None):
        raise ValueError("a result is missing: virtual-mta=NAME, recipient-priority=N or call-to:NAME")
    return AddressPattern(kind, header, regex, origin, vmta, priority, call_to)


def read_domain_key(value: str, origin: Origin) -> DomainKey:
    """`SELECTOR,DOMAIN,FILE`, macros already expanded."""
    parts = [part.strip().strip('"') for part in value.strip().strip('"').split(",", 2)]
    if len(parts) != 3 or not all(parts):
        raise ValueError("domain-key is SELECTOR,DOMAIN,FILE, e.g. domain-key s1,example.com,/etc/mta/s1.pem")
    selector, domain, path = parts
    if not selector.isascii() or any(char.isspace() for char in selector):
        raise ValueError(f"{selector!r} is not a DKIM selector")
    if domain != "*":
        pattern = DomainPattern.parse(domain)
        if pattern.name == "" or domain.startswith(("*", "[")):
            raise ValueError(f"{domain!r}: a domain-key is for one domain and what lies under it, or for *")
        domain = pattern.name
    return DomainKey(selector, domain, path, origin)
