"""Reading content: 10 KB of DATA, as it comes from a fast network and in packets."""

from __future__ import annotations

from collections.abc import Callable

from mta.smtp.data import DataReader

END = b".\r\n"
PLAIN = (b"Subject: x\r\n\r\n" + (b"0" + b"X" * 77 + b"\r\n") * 128)[:10238] + b"\r\n"
HTML = b"Subject: x\r\n\r\n" + (
    b'<td align="left" style="color:#fff; font: 12px/1.4 Arial.x"> Hello, world. </td>\r\n' * 122
)
BASE64 = b"Subject: x\r\n\r\n" + (b"QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNk" * 2)[:76] + b"\r\n"
BASE64 += BASE64[14:] * 130
PACKET = 1448


def reading(wire: bytes, piece: int = 1 << 20) -> Callable[[], object]:
    reader = DataReader(None)
    pieces = [wire[at : at + piece] for at in range(0, len(wire), piece)]

    def call() -> None:
        reader.clear()
        for data in pieces:
            used = reader.feed(data)
        assert used >= 0
        assert reader.refusal is None

    return call


def bench_plain() -> Callable[[], object]:
    """10 KB of lines of 80 octets in one piece"""
    return reading(PLAIN + END)


def bench_html() -> Callable[[], object]:
    """10 KB of HTML in one piece"""
    return reading(HTML + END)


def bench_base64() -> Callable[[], object]:
    """10 KB of base64 in one piece"""
    return reading(BASE64 + END)


def bench_in_packets() -> Callable[[], object]:
    """10 KB in pieces as they come from an Ethernet"""
    return reading(PLAIN + END, PACKET)
