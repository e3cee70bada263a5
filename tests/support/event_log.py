"""A spool full of events, and a configuration that writes them somewhere."""

from __future__ import annotations

from pathlib import Path

from mta.config.load import load_text
from mta.config.snapshot import Snapshot
from mta.message.event import Event, encode_event
from tests.support.spool import Spool

__all__ = ["EventLog", "HandClock", "snapshot_of"]


class HandClock:
    """Time that only moves by hand; `now` and `wall` are the same."""

    def __init__(self, now: float = 1_549_662_845.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time

    def wall(self) -> float:
        return self.time


class EventLog:
    """One partition below `directory` that events can be put into."""

    def __init__(self, directory: Path, name: str = "0") -> None:
        self.path = directory / "spool" / name
        self.path.mkdir(parents=True, mode=0o700)
        self._spool = Spool(self.path, segment_size=64 << 10, settle_size=64 << 10)
        self._number = 0

    def put(self, count: int = 1, type: str = "d", **fields: object) -> list[str]:
        """`count` more events, safe on disk; returns their recipients."""
        recipients = []
        for _ in range(count):
            self._number += 1
            recipient = f"u{self._number}@example.com"
            event = Event(type, f"e{self._number}", 1_549_662_845.0, recipient=recipient, **fields)  # type: ignore[arg-type]
            self._spool.partition.record(encode_event(event))
            recipients.append(recipient)
        self._spool.flush()
        return recipients

    def put_raw(self, event: bytes) -> None:
        """Something that is no event."""
        self._spool.partition.record(event)
        self._spool.flush()

    def close(self) -> None:
        self._spool.partition.close()


def snapshot_of(text: str) -> Snapshot:
    loaded = load_text(text)
    assert loaded.snapshot is not None, loaded.problems
    return loaded.snapshot
