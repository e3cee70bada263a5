"""One SMTP reply as a value (RFC 5321 4.2, enhanced codes RFC 3463)."""

from __future__ import annotations

import msgspec

__all__ = ["Reply"]


class Reply(msgspec.Struct, frozen=True, gc=False):
    """What a server answered: the code, and the text of every line without code and line end.

    `text` holds the lines joined by a blank, decoded as UTF-8 with undecodable bytes replaced, the
    enhanced code still in front; `enhanced` is that code ("" when there is none).
    """

    code: int
    text: str
    enhanced: str = ""

    @property
    def is_positive(self) -> bool:
        return 200 <= self.code < 400

    @property
    def is_temporary(self) -> bool:
        return 400 <= self.code < 500

    @property
    def is_permanent(self) -> bool:
        return 500 <= self.code < 600

    def __str__(self) -> str:
        return f"{self.code} {self.text}"
