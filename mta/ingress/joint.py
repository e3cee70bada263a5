"""What becomes of a submission: the answer to one, and one answer to several that belong together."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mta.smtp.reply import Reply

__all__ = ["AcceptResult", "Joint"]


class AcceptResult(msgspec.Struct, frozen=True, gc=False):
    """The queue id of a message that is on disk, or the reply that refuses it."""

    queue_id: str
    refusal: Reply | None = None


class Joint:
    """Answers once when `count` results are in: with the first queue id, or with the first refusal."""

    __slots__ = ("_answer", "_first", "_left")

    def __init__(self, count: int, answer: Callable[[AcceptResult], None]) -> None:
        self._left = count
        self._answer = answer
        self._first: AcceptResult | None = None

    def done(self, result: AcceptResult) -> None:
        """One more result."""
        if self._first is None or (result.refusal is not None and self._first.refusal is None):
            self._first = result
        self._left -= 1
        if not self._left:
            self._answer(self._first)
