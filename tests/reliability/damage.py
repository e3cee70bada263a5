"""What disks do to files: cut, flip, zero, repeat, swap. Pure: bytes in, bytes out.

An image is the content of every file of a spool by its path. Disks write sectors, so most damage comes in
whole ones; programs and people cut anywhere.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

__all__ = ["KINDS", "Image", "damage", "read_image", "write_image"]

Image = dict[str, bytes]

SECTOR = 512
_MOST_SECTORS = 12


def read_image(directory: Path) -> Image:
    """Every file below a directory."""
    return {
        str(path.relative_to(directory)): path.read_bytes()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


def write_image(image: Image, directory: Path) -> None:
    """Make the directory from an image."""
    for name, content in image.items():
        path = directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.write_bytes(content)


def damage(image: Image, dice: random.Random) -> tuple[Image, str]:
    """One to three random kinds of damage to random files; the second value names them."""
    damaged, names = dict(image), []
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        kind = dice.choice(sorted(KINDS))
        # Files by name, not by size: a small settle file matters as much as a large segment.
        name = dice.choice(sorted(name for name in damaged if not name.endswith("lock")))
        KINDS[kind](damaged, name, dice)
        names.append(f"{kind} {name}")
    return damaged, ", ".join(names)


def _sectors(content: bytes, dice: random.Random) -> tuple[int, int]:
    """Where some sectors begin, near the beginning as likely as anywhere, and how many they are."""
    count = max(1, len(content) // SECTOR)
    at = dice.randrange(min(count, 24)) if dice.random() < 0.5 else dice.randrange(count)
    return at * SECTOR, dice.choice((1, 1, 1, 2, dice.randint(1, _MOST_SECTORS)))


def _put(content: bytes, at: int, part: bytes) -> bytes:
    """`content` with `part` over it, of the same length as before."""
    return (content[:at] + part + content[at + len(part) :])[: len(content)]


def _cut(image: Image, name: str, dice: random.Random) -> None:
    content = image[name]
    at = dice.randrange(len(content) + 1)
    image[name] = content[: at - at % SECTOR if dice.random() < 0.5 else at]


def _flip(image: Image, name: str, dice: random.Random) -> None:
    content = bytearray(image[name])
    for _ in range(dice.choice((1, 1, 2, 8)) if content else 0):
        start, _ = _sectors(image[name], dice)
        at = min(len(content) - 1, start + dice.randrange(SECTOR))
        content[at] ^= 1 << dice.randrange(8)
    image[name] = bytes(content)


def _zero(image: Image, name: str, dice: random.Random) -> None:
    at, count = _sectors(image[name], dice)
    image[name] = _put(image[name], at, bytes(count * SECTOR))


def _noise(image: Image, name: str, dice: random.Random) -> None:
    at, count = _sectors(image[name], dice)
    image[name] = _put(image[name], at, dice.randbytes(count * SECTOR))


def _repeat(image: Image, name: str, dice: random.Random) -> None:
    """Sectors written to a second place as well."""
    (source, count), (target, _) = _sectors(image[name], dice), _sectors(image[name], dice)
    image[name] = _put(image[name], target, image[name][source : source + count * SECTOR])


def _reorder(image: Image, name: str, dice: random.Random) -> None:
    """Two sectors in each other's place."""
    content = image[name]
    (one, _), (other, _) = _sectors(content, dice), _sectors(content, dice)
    first, second = content[one : one + SECTOR], content[other : other + SECTOR]
    if len(first) == len(second):
        image[name] = _put(_put(content, one, second), other, first)


def _stray(image: Image, name: str, dice: random.Random) -> None:
    """Sectors of another file."""
    other = image[dice.choice(sorted(image))]
    (source, count), (target, _) = _sectors(other, dice), _sectors(image[name], dice)
    image[name] = _put(image[name], target, other[source : source + count * SECTOR])


def _grow(image: Image, name: str, dice: random.Random) -> None:
    """Something behind the end."""
    image[name] += dice.choice((bytes, dice.randbytes))(dice.randrange(1, 8 * SECTOR))


def _twin(image: Image, name: str, dice: random.Random) -> None:
    """A second file with the same content."""
    folder, _, last = name.rpartition("/")
    image[f"{folder}/{90000000 + dice.randrange(10**6)}" if last.isdigit() else f"{name}~"] = image[name]


def _swap(image: Image, name: str, dice: random.Random) -> None:
    """Two files of one folder in each other's place."""
    folder = name.rpartition("/")[0]
    other = dice.choice(sorted(one for one in image if one.rpartition("/")[0] == folder))
    image[name], image[other] = image[other], image[name]


def _empty(image: Image, name: str, dice: random.Random) -> None:
    image[name] = b""


def _remove(image: Image, name: str, dice: random.Random) -> None:
    if len(image) > 1:
        del image[name]


#: Every kind of damage by its name.
KINDS: dict[str, Callable[[Image, str, random.Random], None]] = {
    "cut": _cut,
    "empty": _empty,
    "flip": _flip,
    "grow": _grow,
    "noise": _noise,
    "remove": _remove,
    "reorder": _reorder,
    "repeat": _repeat,
    "stray": _stray,
    "swap": _swap,
    "twin": _twin,
    "zero": _zero,
}
