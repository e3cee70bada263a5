"""Which other servers this machine has."""

from __future__ import annotations

from benchmarks.exim import exim_version, has_exim
from benchmarks.haraka import haraka_version, has_haraka
from benchmarks.opensmtpd import has_opensmtpd, opensmtpd_version
from benchmarks.postfix import has_postfix, postfix_version
from benchmarks.scenarios import Server

__all__ = ["installed_peers", "peer_versions"]


def installed_peers() -> set[Server]:
    """Who can take part beside us on this machine."""
    here = {
        Server.POSTFIX: has_postfix(),
        Server.HARAKA: has_haraka(),
        Server.EXIM: has_exim(),
        Server.OPENSMTPD: has_opensmtpd(),
    }
    return {server for server, is_here in here.items() if is_here}


def peer_versions() -> dict[str, str]:
    """The versions of those that can take part, where they tell, by name."""
    versions = {
        Server.POSTFIX: postfix_version,
        Server.EXIM: exim_version,
        Server.OPENSMTPD: opensmtpd_version,
        Server.HARAKA: haraka_version,
    }
    here = installed_peers()
    return {server.value: version() for server, version in versions.items() if server in here}
