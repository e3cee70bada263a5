r"""Scripted replies of the mock receiver: what it says instead of its ordinary answer, command by command.

One rule a line, the first that matches is used; `#` at the start of a line is a comment:

    CONNECT                421 4.3.2 not now
    EHLO                   250-mx.example\n250-PIPELINING\n250 SIZE 1000000
    MAIL x3                451 4.7.1 greylisted          only the first three times
    RCPT /^full@/          452 4.2.2 mailbox full        only lines that match (without the verb and `<`)
    RCPT after=100         452 4.5.3 too many            not the first hundred
    DOT +2s                250 2.0.0 slow but sure       two seconds later
    DOT                    close                         hang up without a reply
    DATA                   reset                         the same with RST
    QUIT                   silence                       no reply, the connection stays
    EHLO                   raw "250-\xff\r\n250 \r\n"    these bytes, nothing added
    CONNECT                drip 1s 220 mx.example        one byte a second

A reply of 421 closes the connection after it, as RFC 5321 3.8 says. Pure.
"""

from __future__ import annotations

import codecs
import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

from mta.errors import ConfigError

__all__ = ["Action", "Rule", "Script", "Stage", "parse_delay", "parse_rule", "parse_script"]


class Stage(enum.Enum):
    """Where in the dialogue a rule applies; DOT is the end of the message data."""

    CONNECT = "CONNECT"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    DOT = "DOT"
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"


class Action(enum.Enum):
    """What a rule does."""

    REPLY = "reply"
    RAW = "raw"
    CLOSE = "close"
    RESET = "reset"
    SILENCE = "silence"
    DRIP = "drip"


@dataclass(slots=True)
class Rule:
    """One line of a script.

    `reply` is in wire form, with its line end (except for RAW). `times` is how often it still applies
    (-1: always), `skip` how many matches it lets pass first; both count down, so a rule belongs to one
    receiver.
    """

    stage: Stage
    action: Action
    reply: bytes = b""
    pattern: re.Pattern[bytes] | None = None
    times: int = -1
    skip: int = 0
    delay: float = 0.0
    interval: float = 0.0

    @property
    def code(self) -> int:
        """The reply's code, 0 when it has none."""
        return int(self.reply[:3]) if self.reply[:3].isdigit() else 0


class Script:
    """All rules of a receiver."""

    def __init__(self, rules: Iterable[Rule] = ()) -> None:
        self._rules: dict[Stage, list[Rule]] = {}
        for rule in rules:
            self._rules.setdefault(rule.stage, []).append(rule)

    def __bool__(self) -> bool:
        return bool(self._rules)

    def find(self, stage: Stage, argument: bytes = b"") -> Rule | None:
        """The rule for what just arrived, counted as used; None = the ordinary answer."""
        for rule in self._rules.get(stage, ()):
            if rule.times == 0 or (rule.pattern is not None and not rule.pattern.search(argument)):
                continue
            if rule.skip:
                rule.skip -= 1
                continue
            if rule.times > 0:
                rule.times -= 1
            return rule
        return None


def parse_script(text: str) -> Script:
    """Read a whole script; ConfigError names the line."""
    rules = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            rules.append(parse_rule(line))
        except ConfigError as error:
            raise ConfigError(f"script line {number}: {error}") from error
    return Script(rules)


RULE = re.compile(
    r"""\s*(?P<stage>[A-Za-z]+)
    (?:\s+/(?P<pattern>(?:[^/\\]|\\.)*)/)?
    (?P<options>(?:\s+(?:x\d+|after=\d+|\+[\d.]+m?s))*)
    \s+(?P<what>.+?)\s*$""",
    re.VERBOSE,
)


def parse_rule(line: str) -> Rule:
    """Read one rule; ConfigError says what is wrong with it."""
    match = RULE.match(line)
    if match is None:
        raise ConfigError(f"{line.strip()!r}: expected a stage and an action, as in: RCPT 550 5.1.1 unknown")
    name = match["stage"].upper()
    name = {"HELO": "EHLO", "BANNER": "CONNECT", "GREETING": "CONNECT"}.get(name, name)
    if name not in Stage.__members__:
        raise ConfigError(f"{match['stage']!r} is no stage; these are: {', '.join(Stage.__members__)}")
    rule = read_action(Stage[name], match["what"])
    if match["pattern"] is not None:
        try:
            rule.pattern = re.compile(match["pattern"].replace(r"\/", "/").encode(), re.IGNORECASE)
        except re.error as error:
            raise ConfigError(f"/{match['pattern']}/ is no pattern: {error}") from error
    for option in match["options"].split():
        if option[0] == "x":
            rule.times = int(option[1:])
        elif option[0] == "+":
            rule.delay = parse_delay(option[1:])
        else:
            rule.skip = int(option.partition("=")[2])
    return rule


def read_action(stage: Stage, what: str) -> Rule:
    """The right half of a rule."""
    word, _, rest = what.partition(" ")
    if word[:3].isdigit() and len(word) >= 3:
        return Rule(stage, Action.REPLY, wire(what))
    match word.lower():
        case "close" | "reset" | "silence" if not rest:
            return Rule(stage, Action(word.lower()))
        case "raw" if len(rest) >= 2 and rest[0] == rest[-1] == '"':
            try:
                decoded, _ = codecs.escape_decode(rest[1:-1].encode())
            except ValueError as error:
                raise ConfigError(f"{rest}: {error}") from error
            return Rule(stage, Action.RAW, decoded)
        case "drip":
            interval, _, reply = rest.partition(" ")
            return Rule(stage, Action.DRIP, wire(reply), interval=parse_delay(interval))
    raise ConfigError(f'{what!r}: expected a reply, close, reset, silence, raw "..." or drip 1s REPLY')


def wire(reply: str) -> bytes:
    r"""A reply as written (`\n` between lines) with the line ends of the wire."""
    return "".join(part + "\r\n" for part in reply.split(r"\n")).encode()


def parse_delay(text: str) -> float:
    """Seconds from `100ms`, `2s`, `0.5s` or a plain number of milliseconds; ConfigError otherwise."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)(ms|s)?", text.strip())
    if match is None:
        raise ConfigError(f"{text!r} is no delay; write 100ms or 2s")
    return float(match[1]) / (1 if match[2] == "s" else 1000)
