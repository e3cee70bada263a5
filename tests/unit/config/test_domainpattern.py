"""Which patterns a domain matches, and which of them is more specific."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.config.domainpattern import DomainPattern, DomainTable, normal_domain


def table(*patterns: str) -> DomainTable[str]:
    return DomainTable((DomainPattern.parse(pattern), False, pattern) for pattern in patterns)


def test_patterns_come_general_before_specific_whatever_their_order() -> None:
    found = table("a.b.c", "*.b.c", "*", "[*.]b.c", "*.c", "[*.]a.b.c").matching("a.b.c")

    assert found == ["*", "*.c", "[*.]b.c", "*.b.c", "[*.]a.b.c", "a.b.c"]


def test_a_star_label_reaches_only_what_lies_below() -> None:
    found = table("*.b.c", "[*.]b.c")

    assert found.matching("b.c") == ["[*.]b.c"]
    assert found.matching("x.y.b.c") == ["[*.]b.c", "*.b.c"]
    assert found.matching("xb.c") == []


def test_address_literals_have_patterns_of_their_own() -> None:
    found = table("[10.0.0.0/8]", "[10.1/16]", "[::1/128]", "*")

    assert found.matching("[10.1.2.3]") == ["*", "[10.0.0.0/8]", "[10.1/16]"]
    assert found.matching("[IPv6:::1]") == ["*", "[::1/128]"]
    assert found.matching("[nonsense]") == ["*"]


def test_a_name_from_a_macro_is_laid_under_the_same_name_written_out() -> None:
    name = DomainPattern.parse("aol.com")
    found = DomainTable([(name, False, "written"), (name, True, "macro")])

    assert found.matching("aol.com") == ["macro", "written"]


def test_names_are_compared_in_lower_case_as_a_labels() -> None:
    assert normal_domain("Пример.РФ.") == "xn--e1afmkfd.xn--p1ai"
    assert table("пример.рф").matching("xn--e1afmkfd.xn--p1ai") == ["пример.рф"]
    assert table("Example.COM").matching("example.com") == ["Example.COM"]


def test_reserved_queue_names_are_exact_names() -> None:
    assert table("{bounce}").matching("{bounce}") == ["{bounce}"]
    assert table("yahoo.rollup").matching("yahoo.rollup") == ["yahoo.rollup"]


@pytest.mark.parametrize(
    "text", ["", "yahoo.*", "a..b", "*x.com", "a b.com", "[10.0.0.0/99]", "-", "**", "[*.]"]
)
def test_other_texts_are_no_patterns(text: str) -> None:
    with pytest.raises(ValueError):
        DomainPattern.parse(text)


LABEL = st.sampled_from(["a", "b", "com", "mail", "x-1"])
NAME = st.lists(LABEL, min_size=1, max_size=4).map(".".join)
PATTERN = st.one_of(st.just("*"), NAME, NAME.map("*.{}".format), NAME.map("[*.]{}".format))


@given(st.lists(PATTERN, max_size=12), NAME)
def test_the_table_finds_exactly_the_patterns_that_match(patterns: list[str], domain: str) -> None:
    expected = {text for text in patterns if DomainPattern.parse(text).matches(domain)}

    assert set(table(*patterns).matching(domain)) == expected
