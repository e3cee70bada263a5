"""Messages of 10 KB that look like what a newsletter sends: text with indented HTML, and base64."""

from __future__ import annotations

import base64
import hashlib

__all__ = ["BASE64_MESSAGE", "HTML_MESSAGE", "SIZE"]

SIZE = 10 * 1024

HEADER = (
    b"From: Alice Example <alice@example.com>\r\n"
    b"To: Bob <bob@example.net>\r\n"
    b"Subject: Everything that happened in our gardens in the month of\r\n November\r\n"
    b"Date: Sat, 21 Nov 2026 00:00:00 +0000\r\n"
    b"Message-ID: <20261121.1234567@example.com>\r\n"
    b"MIME-Version: 1.0\r\n"
    b'Content-Type: multipart/alternative; boundary="=_border"\r\n'
    b"List-Unsubscribe: <https://example.com/u/abcdefghijklmnopqrstuvwxyz>\r\n"
    b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"Reply-To: reply@example.com\r\n"
    b"X-Mailer: sample\r\n"
    b"Feedback-ID: 1:2:3:sample\r\n"
    b"\r\n"
)


def _fill(line: bytes, number: int) -> bytes:
    return b"  " * (number % 5) + b"<p>" + line + b"</p>" + b" " * (number % 9 == 0) + b"\r\n"


def _message(lines: list[bytes]) -> bytes:
    body = b"".join(lines)
    return (HEADER + body)[: SIZE - 2] + b"\r\n"


HTML_MESSAGE = _message(
    [_fill(b"roses and tulips bloom in the borders until the first frost", n) for n in range(160)]
)
BASE64_MESSAGE = _message(
    [base64.b64encode(hashlib.sha512(b"%d" % n).digest())[:76] + b"\r\n" for n in range(140)]
)
