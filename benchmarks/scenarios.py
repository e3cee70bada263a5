"""What is measured: the shapes of load, and who plays which part."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace

__all__ = ["Kind", "Scenario", "Server", "Shape", "Tools", "chosen", "scenarios"]


class Kind(enum.Enum):
    """Which way of the mail is timed."""

    END_TO_END = "end-to-end"  # from the first injection to the last message at the receiver
    INGEST = "ingest"  # acceptance only, nothing leaves: messages durable and answered 250
    DELIVER = "deliver"  # delivery only: what INGEST left in the queue, from "go" to the last message


class Server(enum.Enum):
    """Whom we measure."""

    MTA = "mta"
    POSTFIX = "postfix"


class Tools(enum.Enum):
    """Who injects and who receives."""

    OURS = "ours"  # benchmarks.source and `mta sink`
    POSTFIX = "postfix"  # smtp-source and smtp-sink


@dataclass(frozen=True, slots=True)
class Shape:
    """A load: octets of a message, sessions that inject at a time, messages, recipients' domains."""

    name: str
    size: int
    sessions: int
    count: int
    connections: int = 20  # outgoing, at most


@dataclass(frozen=True, slots=True)
class Scenario:
    """One line of the table."""

    kind: Kind
    shape: Shape
    server: Server
    tools: Tools

    @property
    def name(self) -> str:
        return f"{self.kind.value} {self.shape.name} {self.server.value}/{self.tools.value}"


SHAPES = (
    Shape("10KB-20", 10_240, 20, 20_000),
    Shape("10KB-200", 10_240, 200, 20_000),
    Shape("1KB-20", 1_024, 20, 20_000),
    Shape("100KB-20", 102_400, 20, 4_000),
)
#: The peer is slower by an order of magnitude: fewer messages give the same time.
PEER_SHARE = 5
#: `--short`: enough to see that everything runs.
SHORT_SHARE = 10


def scenarios(*, has_tools: bool, has_postfix: bool, short: bool) -> list[Scenario]:
    """Everything that can be measured here, in the order of the table."""
    tools = [Tools.OURS, *([Tools.POSTFIX] if has_tools else [])]
    found = []
    for shape in SHAPES:
        for kind in kinds_for(shape):
            parts = [(Server.MTA, tool) for tool in tools]
            if has_postfix and has_tools:
                parts.append((Server.POSTFIX, Tools.POSTFIX))
            for server, tool in parts:
                count = shape.count // (PEER_SHARE if server is Server.POSTFIX else 1)
                count //= SHORT_SHARE if short else 1
                found.append(Scenario(kind, replace(shape, count=count), server, tool))
    return found


def kinds_for(shape: Shape) -> tuple[Kind, ...]:
    """Every shape is relayed; the first two are also taken apart."""
    if shape.size == SHAPES[0].size:
        return Kind.END_TO_END, Kind.INGEST, Kind.DELIVER
    return (Kind.END_TO_END,)


def chosen(all_: list[Scenario], words: list[str]) -> list[Scenario]:
    """Those whose name contains one of the words (all without words)."""
    return [one for one in all_ if not words or any(word in one.name for word in words)]
