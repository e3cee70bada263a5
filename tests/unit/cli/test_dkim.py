"""`mta dkim`: keys are made once, published as they are, and signatures judged one by one."""

from __future__ import annotations

import asyncio
import json
import stat
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from mta.cli.dkim import dkim, dns_lookup, verify_all
from mta.cli.invocation import Invocation
from mta.errors import ConfigError
from mta.message.canonical import Signable
from mta.message.dkim import DkimSigner, SignPolicy
from mta.message.domainkey import DkimKey, generate_private_key, parse_private_key, private_pem, txt_record
from mta.sink.nameserver import Nameserver
from mta.sink.zone import Zone

Run = Callable[..., Result]

MESSAGE = b"From: alice@example.com\r\nSubject: hello\r\n\r\nbody\r\n"
KEY = DkimKey("s1", "example.com", generate_private_key("ed25519"))
RECORD = "s1._domainkey.example.com=" + "".join(txt_record(KEY.private))


def signed_with(key: DkimKey) -> bytes:
    draft = DkimSigner(key, SignPolicy(), domain="example.com").draft(Signable(MESSAGE), 0.0)
    assert draft is not None
    return draft.sealed() + MESSAGE


SIGNED = signed_with(KEY)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    runner = CliRunner()

    def call(*arguments: object, stdin: bytes = b"") -> Result:
        words = [str(argument) for argument in arguments]
        result = runner.invoke(dkim, words, input=stdin, obj=Invocation(), standalone_mode=False)
        if isinstance(result.exception, (ConfigError, click.ClickException)):
            raise result.exception
        assert result.exception is None, result.exception
        return result

    return call


def test_a_new_key_is_for_its_owner_only_and_its_record_is_printed(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new.pem"

    result = run("keygen", "-d", "example.com", "-s", "s1", "-b", "1024", "-o", path)

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    record = txt_record(parse_private_key(path.read_bytes()))[0]
    assert f's1._domainkey.example.com. IN TXT ( "{record}" )' in result.output
    assert f"domain-key s1,example.com,{path}" in result.output


def test_a_new_key_never_overwrites_another(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "old.pem"
    path.write_text("precious")

    with pytest.raises(click.ClickException, match="File exists"):
        run("keygen", "-t", "ed25519", "-o", path)

    assert path.read_text() == "precious"


def test_a_new_key_as_json(run: Run, tmp_path: Path) -> None:
    answer = json.loads(run("keygen", "-t", "ed25519", "-s", "e", "-o", tmp_path / "e.pem", "--json").output)

    assert answer["data"]["name"] == "e._domainkey.example.com"
    assert answer["data"]["record"].startswith("v=DKIM1; k=ed25519; p=")


def test_the_record_of_a_key_file(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_bytes(private_pem(KEY.private))

    result = run("txt", path, "-d", "example.com", "-s", "s1")

    assert result.output == f's1._domainkey.example.com. IN TXT ( "{txt_record(KEY.private)[0]}" )\n'


def test_the_records_of_a_whole_configuration(run: Run, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(private_pem(KEY.private))
    (tmp_path / "key.pem").chmod(0o600)
    (tmp_path / "mta.conf").write_text(
        f"spool {tmp_path}\ndomain-key a,*,{tmp_path}/key.pem\ndomain-key b,x.example,{tmp_path}/key.pem\n"
    )

    answer = json.loads(run("txt", "-c", tmp_path / "mta.conf", "--json").output)

    assert [one["name"] for one in answer["data"]] == ["a._domainkey.DOMAIN", "b._domainkey.x.example"]


def test_an_unreadable_key_is_named(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        run("txt", tmp_path / "none.pem")
    (tmp_path / "bad.pem").write_text("bad")
    with pytest.raises(ConfigError, match=r"bad\.pem: neither"):
        run("txt", tmp_path / "bad.pem")


def test_a_right_signature_passes(run: Run) -> None:
    result = run("verify", "--record", RECORD, stdin=SIGNED)

    assert result.return_value == 0
    assert "example.com  s1        ed25519-sha256  pass" in result.output


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (SIGNED.replace(b"hello", b"hallo"), "does not fit the header"),
        (SIGNED.replace(b"body", b"bodies"), "body hash mismatch"),
        (SIGNED.replace(b"s=s1", b"s=s2"), "no key in the DNS"),
        (b"DKIM-Signature: nonsense\r\n" + MESSAGE, "tags"),
        (b"no header\r\n" + SIGNED, "Unexpected characters"),
    ],
)
def test_a_wrong_signature_fails_with_a_reason(run: Run, message: bytes, reason: str) -> None:
    result = run("verify", "--record", RECORD, "--json", stdin=message)

    answer = json.loads(result.output)
    assert result.return_value == 65
    assert answer["status"] == "failure"
    assert reason in answer["data"][0]["reason"]


def test_each_signature_is_judged_by_itself(run: Run) -> None:
    both = SIGNED[: SIGNED.index(b"From:")].replace(b"s=s1", b"s=s2") + SIGNED

    result = run("verify", "--record", RECORD, "--json", stdin=both)

    assert [one["is_valid"] for one in json.loads(result.output)["data"]] == [False, True]
    assert result.return_value == 65


def test_no_signature_is_not_a_pass(run: Run) -> None:
    assert run("verify", stdin=MESSAGE).return_value == 65


async def test_records_come_from_the_dns() -> None:
    long_key = DkimKey("long", "example.com", generate_private_key("rsa", 2048))
    record = " ".join(f'"{text}"' for text in txt_record(long_key.private))
    signed = signed_with(long_key)
    async with Nameserver(Zone.from_dict({"long._domainkey.example.com": f"TXT {record}"})) as server:
        lookup = dns_lookup("{}:{}".format(*server.address))
        known = await asyncio.to_thread(lambda: list(verify_all(signed, lookup)))
        unknown = await asyncio.to_thread(lambda: list(verify_all(SIGNED, lookup)))

    assert [one.is_valid for one in known] == [True]
    assert [one.is_valid for one in unknown] == [False]
