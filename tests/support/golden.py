"""Answers that other people's programs parse: they are kept as files and compared to the letter.

`MTA_WRITE_GOLDEN=1` writes them anew; look at the difference before you commit it.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["GOLDEN", "assert_golden"]

GOLDEN = Path(__file__).parent.parent / "data"


def assert_golden(name: str, text: str) -> None:
    """`text` is what the file of that name in tests/data holds."""
    path = GOLDEN / name
    if os.environ.get("MTA_WRITE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{name} has changed"
