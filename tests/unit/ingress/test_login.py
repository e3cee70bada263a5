"""Logins and lockouts."""

from __future__ import annotations

import pytest

from mta.config.units import Rate
from mta.ingress.login import Lockout, Logins
from tests.support.inbound import snapshot_of

USERS = """
<smtp-user app>
    password s3cret
    source {app}
</smtp-user>
<smtp-user gr\u00e5>
    password p\u00e4ss
</smtp-user>
<smtp-user certified>
    password irrelevant
    authentication-method certificate
</smtp-user>
<smtp-user silent>
</smtp-user>
"""


def test_right_password_gives_name_and_source() -> None:
    logins = Logins(snapshot_of(USERS))

    assert logins.check(b"app", b"s3cret") == ("app", "{app}")
    assert logins.check("gr\u00e5".encode(), "p\u00e4ss".encode()) == ("gr\u00e5", "{auth}")


@pytest.mark.parametrize(
    ("name", "password"),
    [
        (b"app", b"S3cret"),
        (b"app", b""),
        (b"app", b"s3cret\x00"),
        (b"App", b"s3cret"),
        (b"nobody", b"s3cret"),
        (b"", b""),
        (b"\xff\xfe", b"x"),
        (b"certified", b"irrelevant"),
        (b"silent", b""),
    ],
)
def test_everything_else_is_nobody(name: bytes, password: bytes) -> None:
    assert Logins(snapshot_of(USERS)).check(name, password) is None


def test_without_users_there_is_nothing_to_offer() -> None:
    assert not Logins(snapshot_of())
    assert Logins(snapshot_of(USERS))


def test_passwords_cannot_be_read_back() -> None:
    assert "s3cret" not in repr(vars(Logins(snapshot_of(USERS))))


RATE = Rate(3, 60.0)


def test_lock_runs_from_the_first_failure() -> None:
    lockout = Lockout()

    for moment in (0.0, 30.0, 50.0):
        assert not lockout.is_locked("192.0.2.1", RATE, moment)
        lockout.failed("192.0.2.1", RATE, moment)

    assert lockout.is_locked("192.0.2.1", RATE, 59.9)
    assert not lockout.is_locked("192.0.2.1", RATE, 60.0)
    assert not lockout.is_locked("192.0.2.2", RATE, 59.9)


def test_failures_long_apart_do_not_add_up() -> None:
    lockout = Lockout()

    for moment in (0.0, 61.0, 122.0, 183.0):
        lockout.failed("192.0.2.1", RATE, moment)
        assert not lockout.is_locked("192.0.2.1", RATE, moment)


def test_an_ipv6_network_is_one_client() -> None:
    lockout = Lockout()
    for last in range(3):
        lockout.failed(f"2001:db8::{last}", RATE, 0.0)

    assert lockout.is_locked("2001:db8::ffff", RATE, 1.0)
    assert not lockout.is_locked("2001:db8:0:1::1", RATE, 1.0)
    assert not lockout.is_locked("no:address", RATE, 1.0)


def test_without_a_rate_nobody_is_remembered() -> None:
    lockout = Lockout()

    lockout.failed("192.0.2.1", None, 0.0)

    assert not lockout.is_locked("192.0.2.1", None, 0.0)
    assert len(lockout) == 0


def test_a_botnet_cannot_fill_the_memory() -> None:
    lockout = Lockout()

    for number in range(30_000):
        lockout.failed(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", RATE, 0.0)

    assert len(lockout) == 10_000
