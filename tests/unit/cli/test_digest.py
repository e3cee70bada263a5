"""`mta digest`: the vectors of the papers, and keys that can't be used."""

from __future__ import annotations

import pytest

from mta.cli.digest import siphash
from mta.cli.main import main

KEY = bytes(range(16))


@pytest.mark.parametrize(
    ("length", "value"), [(0, 0x726FDB47DD0E0E31), (1, 0x74F839C593DC67FD), (15, 0xA129CA6149BE45E5)]
)
def test_siphash_agrees_with_its_authors(length: int, value: int) -> None:
    assert siphash(KEY, bytes(range(length))) == value


def test_hmac_agrees_with_rfc_4231(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["digest", "--hmac-sha256", "--key=Jefe", "what do ya want for nothing?"]) == 0

    said = capsys.readouterr().out
    assert said.strip() == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"


def test_hexadecimal_key_and_a_form_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--dom", "digest", f"--hexkey={KEY.hex()}", "\0"]) == 0

    assert 'digest="74f839c593dc67fd"' in capsys.readouterr().out


@pytest.mark.parametrize("key", ["--hexkey=xyz", f"--hexkey={'00' * 17}"])
def test_key_that_cannot_be_used_is_wrong_usage(key: str) -> None:
    assert main(["digest", key, "jo"]) == 64
