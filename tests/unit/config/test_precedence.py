"""Precedence against a model that is slow and obvious."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.config.load import load_text

SCOPES = ("global", "pool", "vmta")
NAMES = ("max-smtp-out", "max-msg-per-connection", "max-rcpt-per-message")
LABELS = ("a.b", "b", "x.a.b", "c")
PATTERNS = ("*", *LABELS, *(f"*.{name}" for name in LABELS), *(f"[*.]{name}" for name in LABELS))
DEFAULTS = {"max-smtp-out": 20, "max-msg-per-connection": 0, "max-rcpt-per-message": 1000}

BLOCK = st.tuples(
    st.sampled_from(SCOPES),
    st.sampled_from(PATTERNS),
    st.dictionaries(st.sampled_from(NAMES), st.integers(1, 999), min_size=1),
)
DOMAIN = st.sampled_from((*LABELS, "y.x.a.b", "z"))

Block = tuple[str, str, dict[str, int]]


def written(blocks: list[Block]) -> str:
    texts: dict[str, list[str]] = {scope: [] for scope in SCOPES}
    for scope, pattern, values in blocks:
        lines = "\n".join(f"  {name} {value}" for name, value in values.items())
        texts[scope].append(f"<domain {pattern}>\n{lines}\n</domain>")
    return "\n".join(
        [
            "<virtual-mta v>",
            *texts["vmta"],
            "</virtual-mta>",
            "<virtual-mta-pool p>",
            "virtual-mta v",
            *texts["pool"],
            "</virtual-mta-pool>",
            *texts["global"],
        ]
    )


def rank(pattern: str) -> tuple[int, int, int]:
    """Exact names above wildcards above `*`; longer wildcards above shorter ones, `*.x` above `[*.]x`."""
    if pattern == "*":
        return (0, 0, 0)
    if pattern.startswith("[*.]"):
        return (1, pattern[4:].count(".") + 1, 0)
    if pattern.startswith("*."):
        return (1, pattern[2:].count(".") + 1, 1)
    return (2, 0, 0)


def covers(pattern: str, domain: str) -> bool:
    if pattern == "*" or pattern == domain:
        return True
    base = pattern.removeprefix("[*.]").removeprefix("*.")
    if base == pattern:
        return False
    return domain.endswith("." + base) or (pattern.startswith("[") and domain == base)


def expected(blocks: list[Block], domain: str, name: str) -> int:
    order = sorted(enumerate(blocks), key=lambda item: (SCOPES.index(item[1][0]), rank(item[1][1]), item[0]))
    value = DEFAULTS[name]
    for _index, (_scope, pattern, values) in order:
        if covers(pattern, domain) and name in values:
            value = values[name]
    return value


@settings(max_examples=150, deadline=None)
@given(st.lists(BLOCK, max_size=14), DOMAIN)
def test_every_value_is_the_one_that_the_model_finds(blocks: list[Block], domain: str) -> None:
    loaded = load_text(written(blocks))
    assert loaded.snapshot is not None, loaded.problems
    found = loaded.snapshot.effective(domain, "v")

    for name in NAMES:
        assert found.integer(name) == expected(blocks, domain, name), (name, written(blocks))
