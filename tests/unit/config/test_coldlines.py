"""`auto-cold-virtual-mta`: a cold virtual MTA in one line."""

from __future__ import annotations

from mta.config.load import load_text
from mta.config.snapshot import EgressSource, Snapshot

WARM = """
<virtual-mta-pool team>
  virtual-mta warm
  <domain *>
    max-msg-rate 50/h
  </domain>
</virtual-mta-pool>
<virtual-mta warm>
  smtp-source-host 192.0.2.1 warm.example.org
  max-smtp-out 7
  auto-cold-virtual-mta 192.0.2.7 cold.example.org
  auto-cold-virtual-mta 192.0.2.8 colder.example.org
  <domain example.net>
    max-smtp-out 3
    max-cold-virtual-mta-msg 10/day
  </domain>
</virtual-mta>
"""


def snapshot(text: str) -> Snapshot:
    loaded = load_text(text)
    assert loaded.snapshot is not None, [str(problem) for problem in loaded.problems]
    return loaded.snapshot


def test_each_line_makes_a_virtual_mta_with_that_address() -> None:
    made = snapshot(WARM)

    assert sorted(made.vmtas) == ["warm", "warm.cold", "warm.cold2", "{default}"]
    assert made.vmtas["warm.cold"].sources == (EgressSource("192.0.2.7", "cold.example.org"),)
    assert made.vmtas["warm.cold2"].sources == (EgressSource("192.0.2.8", "colder.example.org"),)
    assert made.vmtas["warm"].sources == (EgressSource("192.0.2.1", "warm.example.org"),)


def test_the_warm_one_has_them_as_its_cold_ones_and_they_have_none() -> None:
    made = snapshot(WARM)

    assert made.vmtas["warm"].settings.texts("cold-virtual-mta") == ("warm.cold", "warm.cold2")
    assert made.vmtas["warm.cold"].settings.texts("cold-virtual-mta") == ()


def test_everything_else_is_that_of_the_warm_one() -> None:
    made = snapshot(WARM)
    cold = made.effective("example.net", "warm.cold")

    assert made.vmtas["warm.cold"].settings.integer("max-smtp-out") == 7
    assert cold.integer("max-smtp-out") == 3
    assert cold.rate("max-msg-rate") == made.effective("example.net", "warm").rate("max-msg-rate")
    assert made.vmtas["warm.cold"].pool == "team"
    assert made.pools["team"].members == ("warm",)


def test_name_that_is_taken_is_an_error_with_the_line() -> None:
    loaded = load_text(WARM + "<virtual-mta warm.cold>\n</virtual-mta>\n")

    assert loaded.snapshot is None
    (error,) = [problem for problem in loaded.problems if "there is one already" in problem.text]
    assert error.line == 11


def test_address_that_cannot_be_read_is_an_error() -> None:
    loaded = load_text("<virtual-mta a>\nauto-cold-virtual-mta nowhere b.example\n</virtual-mta>\n")

    assert loaded.snapshot is None
