"""Pieces of configuration that tests of steering share: where mail goes, who sends it, what replies do."""

from __future__ import annotations

from typing import Protocol

__all__ = ["REACTIONS", "by_vmta", "reactions", "towards"]

#: What a `<domain>` says that obeys `reactions(...)`.
REACTIONS = "smtp-pattern-list reactions"


class Receiver(Protocol):
    """Whoever listens on 127.0.0.1."""

    port: int


def towards(*servers: Receiver, lines: str = "", host: str = "[127.0.0.1]") -> str:
    """Send example.com to the first of these servers, to the next one where it fails; as these lines say."""
    hosts = ";".join(f"{host}:{server.port}" for server in servers)
    return f"<domain example.com>\nsmtp-hosts {hosts}\n{lines}\n</domain>"


def by_vmta(lines: str = "", *, pool: str | None = None) -> str:
    """All mail goes through the virtual MTA `v1` with these lines; `pool` are those of a pool around it."""
    text = f"<virtual-mta v1>\n{lines}\n</virtual-mta>\n"
    if pool is not None:
        text += f"<virtual-mta-pool p1>\nvirtual-mta v1\n{pool}\n</virtual-mta-pool>\n"
    name = "v1" if pool is None else "p1"
    return f"{text}<source 127.0.0.1>\ndefault-virtual-mta {name}\n</source>\n"


def reactions(*lines: str) -> str:
    """A list of reactions to replies, for queues with `REACTIONS`."""
    entries = "\n".join(f"reply {line}" for line in lines)
    return f"<smtp-pattern-list reactions>\n{entries}\n</smtp-pattern-list>\n"
