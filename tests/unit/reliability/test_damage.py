"""Damage to images: each kind does what its name says, and the same dice do the same."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.reliability.damage import KINDS, damage, read_image, write_image
from tests.reliability.images import make_sound
from tests.reliability.oracle import Oracle

IMAGE = {"segments/00000001": bytes(range(256)) * 64, "segments/00000002": b"\1" * 9000, "marks": b"m" * 64}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_every_kind_leaves_an_image_that_can_be_written(kind: str, tmp_path: Path) -> None:
    for seed in range(20):
        image = dict(IMAGE)
        KINDS[kind](image, "segments/00000001", random.Random(seed))
        place = tmp_path / f"{seed}"
        write_image(image, place)
        assert read_image(place) == image


@pytest.mark.parametrize("kind", ["flip", "zero", "noise", "repeat", "reorder", "stray"])
def test_damage_inside_keeps_the_length(kind: str) -> None:
    for seed in range(50):
        image = dict(IMAGE)
        KINDS[kind](image, "segments/00000002", random.Random(seed))
        assert len(image["segments/00000002"]) == 9000


def test_the_same_dice_do_the_same_damage_and_leave_the_original_alone() -> None:
    before = dict(IMAGE)

    assert damage(IMAGE, random.Random(7)) == damage(IMAGE, random.Random(7))
    assert before == IMAGE


def test_the_oracle_wants_everything_of_a_sound_image(tmp_path: Path) -> None:
    sound = make_sound(tmp_path / "spool", random.Random(3))

    wanted, done = sound.oracle.due(sound.image)

    assert wanted
    assert done
    assert not wanted & done
    assert {message for message, _ in wanted} <= sound.oracle.messages.keys()


def test_the_oracle_wants_nothing_whose_bytes_have_changed(tmp_path: Path) -> None:
    sound = make_sound(tmp_path / "spool", random.Random(3))
    message, copies = next(iter(sound.oracle.messages.items()))
    image = dict(sound.image)
    for name, content in sound.image.items():
        for copy in copies:
            if content[copy.at : copy.at + len(copy.content)] == copy.content:
                changed = bytearray(content)
                changed[copy.at + 5] ^= 1
                image[name] = bytes(changed)

    wanted, _ = sound.oracle.due(image)

    assert message not in {one for one, _ in wanted}
    assert wanted | sound.oracle.due(image)[1]


def test_records_are_found_under_any_name(tmp_path: Path) -> None:
    sound = make_sound(tmp_path / "spool", random.Random(4))
    moved = {f"{name.rpartition('/')[0]}/9{name.rpartition('/')[2][1:]}" if "/" in name else name: content
             for name, content in sound.image.items()}  # fmt: skip

    assert sound.oracle.due(moved) == sound.oracle.due(sound.image)
    assert Oracle.of(moved).recipients == sound.oracle.recipients
