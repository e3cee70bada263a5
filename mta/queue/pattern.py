"""Names of queues as operators write them: `domain/vmta`, with `*` on either side.

`*.example.com/*` means the sub-domains of example.com, `[*.]example.com/*` those and itself. Without a
`/vmta` the `{default}` virtual MTA is meant, as in PowerMTA's commands.
"""

from __future__ import annotations

from typing import NamedTuple

from mta.queue.key import QueueKey

__all__ = ["QueuePattern"]

DEFAULT_VMTA = "{default}"


class QueuePattern(NamedTuple):
    """Which queues a command is about."""

    domain: str
    vmta: str

    @classmethod
    def parse(cls, text: str) -> QueuePattern:
        """Read `domain/vmta`; ValueError with a sentence when a side is empty."""
        domain, slash, vmta = text.strip().lower().partition("/")
        if not domain or (slash and not vmta):
            raise ValueError(f"{text!r} is not a queue name: write domain/vmta, with * for any")
        return cls(domain, vmta or DEFAULT_VMTA)

    def matches(self, key: QueueKey) -> bool:
        """Whether the queue is meant."""
        return side_matches(self.vmta, key.vmta.lower()) and side_matches(self.domain, key.domain)

    def covers(self, other: QueuePattern) -> bool:
        """Whether everything that `other` means is meant."""
        return side_matches(self.vmta, other.vmta) and side_matches(self.domain, other.domain)

    @property
    def exact(self) -> QueueKey | None:
        """The one queue that is meant, if it is one."""
        return None if "*" in self.domain or "*" in self.vmta else QueueKey(self.domain, self.vmta)

    def __str__(self) -> str:
        return f"{self.domain}/{self.vmta}"


def side_matches(pattern: str, name: str) -> bool:
    """`*` is anything, `*.x` what ends in `.x`, `[*.]x` also x itself, `x*` what begins with x."""
    if pattern == "*" or pattern == name:
        return True
    if pattern.startswith("[*.]"):
        return name == pattern[4:] or name.endswith("." + pattern[4:])
    if pattern.startswith("*"):
        return name.endswith(pattern[1:])
    return pattern.endswith("*") and name.startswith(pattern[:-1])
