"""Sources behind HAProxy servers as they are written."""

from __future__ import annotations

import pytest

from mta.config.load import load_text
from mta.config.proxy import Proxy
from mta.config.snapshot import EgressSource

PROXIES = """
<proxy one>
server 10.0.0.2:8080
client 192.0.2.1 one.example.com
</proxy>
<proxy two>
server 10.0.0.3:8080
client 192.0.2.2:4000 two.example.com
protocol-version 2
</proxy>
"""
ONE = Proxy("10.0.0.2", 8080, "192.0.2.1", 0, "one.example.com")
TWO = Proxy("10.0.0.3", 8080, "192.0.2.2", 4000, "two.example.com", 2)


def sources(text: str) -> tuple[EgressSource, ...]:
    loaded = load_text(f"{PROXIES}<virtual-mta v>\n{text}\n</virtual-mta>\n")
    assert loaded.snapshot is not None, [str(problem) for problem in loaded.problems]
    return loaded.snapshot.vmtas["v"].sources


def test_use_proxy_makes_one_source_with_its_substitutes() -> None:
    assert sources("use-proxy one, two") == (EgressSource("192.0.2.1", "one.example.com", (ONE, TWO)),)


def test_each_proxy_source_host_is_a_source() -> None:
    line = "smtp-proxy-source-host 127.0.0.1 10.0.0.2:80 192.0.2.{} h{}.example.com\n"
    found = sources("proxy-protocol 2\n" + line.format(7, 7) + line.format(8, 8))

    assert [source.ip for source in found] == ["192.0.2.7", "192.0.2.8"]
    assert found[0].proxies == (Proxy("10.0.0.2", 80, "192.0.2.7", 0, "h7.example.com", 2, "127.0.0.1"),)


def test_range_of_local_addresses_leaves_the_choice_to_the_system() -> None:
    found = sources("smtp-proxy-source-host 10.1.0.0/24 10.0.0.2:80 [2001:db8::1]:0 h.example.com")

    assert (found[0].ip, found[0].proxies[0].local_ip) == ("2001:db8::1", "")


@pytest.mark.parametrize(
    "text",
    [
        "smtp-proxy-source-host 127.0.0.1 10.0.0.2 192.0.2.7 h.example.com",
        "smtp-proxy-source-host 127.0.0.1 10.0.0.2:80 192.0.2.7",
        "smtp-proxy-source-host 127.0.0.1 10.0.0.2:80 name h.example.com",
        "use-proxy three",
        "use-proxy one\nsmtp-source-host 10.0.0.1 a.example.com",
        "use-proxy one\nsmtp-proxy-source-host 127.0.0.1 10.0.0.2:80 192.0.2.7 h.example.com",
    ],
)
def test_what_makes_no_sense_is_an_error(text: str) -> None:
    loaded = load_text(f"{PROXIES}<virtual-mta v>\n{text}\n</virtual-mta>\n")

    assert loaded.snapshot is None
    assert len([problem for problem in loaded.problems if problem.severity.name == "ERROR"]) == 1


def test_proxy_without_its_lines_is_left_out_with_a_warning() -> None:
    loaded = load_text("<proxy p>\nserver 10.0.0.1:1\n</proxy>\n")

    assert any("can't be used without client" in problem.text for problem in loaded.problems)
