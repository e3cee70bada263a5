"""What aiosmtpd's AUTH needs to run without a stream reader: a session, and lines that come when they come.

Its coroutine is not a task: `Wire.drive` sends it one line after the other.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from aiosmtpd.smtp import Session

__all__ = ["LoginSession", "NextLine"]


class LoginSession(Session):
    """aiosmtpd's session, without the property that logs a warning at each login."""

    login_data: Any = None


class NextLine:
    """Stands where aiosmtpd has its reader; `readline` waits until somebody sends the coroutine a line."""

    def __await__(self) -> Generator[None, bytes, bytes]:
        return (yield)

    async def readline(self) -> bytes:
        return await self
