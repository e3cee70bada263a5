"""Deliveries without SMTP: discarded, written to files, given to programs."""

from __future__ import annotations

import contextlib
import mailbox
import os
import stat
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mta.delivery.policy import DeliveryPolicy
from mta.message.envelope import Personal, Recipient
from tests.support.delivery_rig import BODY, PATIENT, DeliveryRig

pytestmark = pytest.mark.both_loops

TEXT = b"From: a@example.com\nSubject: test\n\nhello\n.dots\n"


def policy(kind: str, **changes: Any) -> DeliveryPolicy:
    return replace(PATIENT, type=kind, **changes)


@pytest.fixture
def program(tmp_path: Path) -> Callable[[str], str]:
    """A program of these lines of Python."""

    def write(lines: str) -> str:
        path = tmp_path / "program"
        path.write_text(f"#!{sys.executable}\nimport os, sys, time\ngot = sys.stdin.read()\n{lines}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


async def test_discarded_mail_is_recorded_as_delivered() -> None:
    async with DeliveryRig([], policy("discard")) as rig:
        rig.admit("a@example.net", "b@example.net")
        events = await rig.until(2)

        assert [(event.type, event.delivery_type, event.dsn_status) for event in events] == [
            ("d", "discard", "2.0.0")
        ] * 2
        assert "message discarded" in events[0].dsn_diag


async def test_discarded_mail_may_be_recorded_as_bounced_and_nobody_is_told() -> None:
    async with DeliveryRig([], policy("discard", discard_as_bounce=True)) as rig:
        rig.admit()
        (event,) = await rig.until(1)

        assert (event.type, event.delivery_type) == ("b", "discard")
        assert rig.store.waiting == set()


async def test_new_file_has_the_message_as_people_read_it(tmp_path: Path) -> None:
    destination = f"{tmp_path}/$domain/${{user}}/"
    async with DeliveryRig([], policy("file", file_destination=destination)) as rig:
        rig.admit("Bob@example.net")
        (event,) = await rig.until(1)

        path = tmp_path / "example.net" / "bob" / "Q1-0.msg"
        assert path.read_bytes() == TEXT
        assert (event.type, event.delivery_type, event.dsn_mta) == ("d", "file", str(path))
        assert [entry.name for entry in path.parent.iterdir()] == ["Q1-0.msg"]


async def test_file_never_replaces_another(tmp_path: Path) -> None:
    async with DeliveryRig([], policy("file", file_destination=f"{tmp_path}/mail")) as rig:
        rig.admit("a@example.net", "b@example.net")
        await rig.until(2)

        assert sorted(path.name for path in tmp_path.iterdir()) == ["mail", "mail.1"]


async def test_pickup_file_can_be_picked_up_again(tmp_path: Path) -> None:
    form = policy("file", file_destination=f"{tmp_path}/", file_format="newfile-pickup")
    async with DeliveryRig([], form) as rig:
        rig.admit(job_id="j1")
        await rig.until(1)

        head = b"x-sender: a@example.com\nx-receiver: b@example.net\nx-job: j1\n"
        assert (tmp_path / "Q1-0.msg").read_bytes() == head + TEXT


async def test_mailbox_grows(tmp_path: Path) -> None:
    form = policy("file", file_destination=f"{tmp_path}/$user", file_format="append-mbox")
    async with DeliveryRig([], form) as rig:
        rig.admit(body=BODY + b"From here on\r\n")
        rig.admit()
        await rig.until(2)

        with contextlib.closing(mailbox.mbox(tmp_path / "b")) as box:
            assert len(box) == 2
        assert (tmp_path / "b").read_bytes().count(b"\n>From here on\n") == 1


async def test_address_cannot_lead_out_of_the_directory(tmp_path: Path) -> None:
    form = policy("file", file_destination=f"{tmp_path}/in/$user/$to")
    async with DeliveryRig([], form) as rig:
        rig.admit("..@example.net", "../../x@example.net")
        await rig.until(2)

        found = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
        assert found == ["in/_./_.@example.net", "in/_._.._x/_._.._x@example.net"]


async def test_file_that_cannot_be_written_waits(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    async with DeliveryRig([], policy("file", file_destination=f"{tmp_path}/file/x/")) as rig:
        rig.admit()
        (event,) = await rig.until(1)

        assert (event.type, event.dsn_status, event.delivery_type) == ("t", "4.2.0", "file")


async def test_program_gets_message_and_words(tmp_path: Path, program: Callable[[str], str]) -> None:
    command = program(f"open({str(tmp_path / 'out')!r}, 'w').write(repr(sys.argv[1:]) + got)")
    async with DeliveryRig([], policy("pipe", command=f"{command} '$from to' $to $x")) as rig:
        rig.admit("b;c|$(d)@example.net")
        (event,) = await rig.until(1)

        assert (event.type, event.delivery_type) == ("d", "pipe"), event
        words = ["a@example.com to", "b;c|$(d)@example.net", "$x"]
        assert (tmp_path / "out").read_text() == repr(words) + TEXT.decode()


@pytest.mark.parametrize(
    ("lines", "kind", "status"),
    [
        ("sys.exit(75)", "t", "4.3.0"),
        ("sys.exit(67)", "b", "5.1.1"),
        ("sys.exit(1)", "t", "4.3.0"),
        ("os.kill(os.getpid(), 9)", "t", "4.3.0"),
        ("print('all is well')", "d", "2.0.0"),
    ],
)
async def test_exit_status_says_what_became_of_it(
    program: Callable[[str], str], lines: str, kind: str, status: str
) -> None:
    async with DeliveryRig([], policy("pipe", command=program(lines))) as rig:
        rig.admit()
        (event,) = await rig.until(1)

        assert (event.type, event.dsn_status) == (kind, status)


async def test_program_without_an_end_is_killed_with_its_children(
    tmp_path: Path, program: Callable[[str], str]
) -> None:
    command = program(f"open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(600)")
    async with DeliveryRig([], policy("pipe", command=command, data_termination_timeout=0.7)) as rig:
        rig.admit()
        (event,) = await rig.until(1)

        assert (event.type, event.dsn_status) == ("t", "4.3.0")
        assert "no end within" in event.dsn_diag
        if (tmp_path / "pid").exists():
            with pytest.raises(ProcessLookupError):
                os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("command", ["", "/nowhere/at/all", "'"])
async def test_program_that_is_not_there_makes_mail_wait(command: str) -> None:
    async with DeliveryRig([], policy("pipe", command=command)) as rig:
        rig.admit()
        (event,) = await rig.until(1)

        assert event.type == "t"


async def test_limits_of_the_queue_hold_and_personal_texts_are_filled_in(tmp_path: Path) -> None:
    recipients = tuple(
        Recipient(f"{name}@example.net", "example.net", personal=Personal(variables={"n": name.encode()}))
        for name in "ab"
    )
    form = policy("file", file_destination=f"{tmp_path}/$user", removed_headers=frozenset((b"x-out",)))
    body = b"X-Out: 1\r\nSubject: [n]\r\n\r\n"
    async with DeliveryRig([], form) as rig:
        rig.admit(
            "a@example.net",
            "b@example.net",
            body=body,
            recipients=recipients,
            is_personal=True,
            template=(0, len(body)),
        )
        await rig.until(2)

        assert [(tmp_path / name).read_bytes() for name in "ab"] == [b"Subject: a\n\n", b"Subject: b\n\n"]
