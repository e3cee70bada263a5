"""`python -m tests.fuzz.guided TARGET [libFuzzer options]`: one target under atheris, in its own process.

libFuzzer never gives control back, so the runner starts this and reads the exit code. Needs the `fuzz` extra.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

__all__ = ["main"]

#: Which module of ours holds a target; only what it imports afterwards is instrumented.
PARTS = ("wire", "letters", "disk", "language", "names")


def main() -> None:
    import atheris

    name, *options = sys.argv[1:]
    # The fuzzed code is instrumented, the oracles are not: they would drown its coverage.
    with atheris.instrument_imports(include=["mta"]):
        found = [importlib.import_module(f"tests.fuzz.{part}") for part in PARTS]
    from tests.fuzz.target import quiet, timed

    quiet()

    target = next(one for module in found for one in module.TARGETS if one.name == name)

    def one(data: bytes) -> None:
        if len(data) <= target.largest:
            timed(target, data)

    atheris.Setup([sys.argv[0], f"-max_len={target.largest}", *options], one)
    atheris.Fuzz()


def write_words(words: tuple[bytes, ...], path: Path) -> None:
    """A dictionary file as libFuzzer reads it."""
    path.write_text("".join('"' + "".join(f"\\x{octet:02x}" for octet in word) + '"\n' for word in words))


if __name__ == "__main__":
    main()
