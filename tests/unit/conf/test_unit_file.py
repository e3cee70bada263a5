"""The systemd unit keeps the service in its sandbox."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[3] / "conf" / "mta.service"

#: What takes a power away from a service that was broken into.
SANDBOX = {
    "NoNewPrivileges": "yes",
    "ProtectSystem": "strict",
    "ProtectHome": "yes",
    "PrivateTmp": "yes",
    "PrivateDevices": "yes",
    "PrivateMounts": "yes",
    "ProtectKernelTunables": "yes",
    "ProtectKernelModules": "yes",
    "ProtectKernelLogs": "yes",
    "ProtectControlGroups": "yes",
    "ProtectClock": "yes",
    "ProtectHostname": "yes",
    "ProtectProc": "invisible",
    "RestrictNamespaces": "yes",
    "RestrictRealtime": "yes",
    "RestrictSUIDSGID": "yes",
    "LockPersonality": "yes",
    "MemoryDenyWriteExecute": "yes",
    "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
    "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
    "SystemCallArchitectures": "native",
    "UMask": "0077",
}


def settings() -> dict[str, list[str]]:
    """Every `Key=value` of the unit; a key may come more than once."""
    found: dict[str, list[str]] = {}
    for line in UNIT.read_text().splitlines():
        match = re.match(r"([A-Za-z]+)=(.*)", line)
        if match:
            found.setdefault(match[1], []).append(match[2])
    return found


@pytest.mark.parametrize(("key", "value"), SANDBOX.items())
def test_sandbox_key_is_set(key: str, value: str) -> None:
    assert settings()[key] == [value]


def test_service_reports_its_state_and_is_watched() -> None:
    unit = settings()

    assert unit["Type"] == ["notify"]
    assert int(unit["WatchdogSec"][0]) > 0


def test_stopping_leaves_time_to_finish_transfers() -> None:
    unit = settings()

    assert unit["KillMode"] == ["mixed"]
    assert int(unit["TimeoutStopSec"][0]) > 30  # the drain takes less than 30 s


def test_configuration_is_checked_before_the_start() -> None:
    assert settings()["ExecStartPre"][0].endswith("mta check /etc/mta/mta.conf")


def test_calls_that_limits_and_affinity_need_are_not_filtered() -> None:
    filters = settings()["SystemCallFilter"]

    assert filters[0] == "@system-service"
    assert all("@resources" not in entry for entry in filters)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_rates_the_exposure_at_most_two() -> None:
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    rating = re.search(r"exposure level for mta\.service: ([0-9.]+)", done.stdout)
    if rating is None:
        pytest.skip(f"this systemd-analyze can't judge a file: {done.stderr.strip()[:200]}")

    assert float(rating[1]) <= 2.0
