"""`auto-cold-virtual-mta IP NAME`: a cold virtual MTA in one line of the one that is warm.

The line stands for a virtual MTA of its own, `WARM.cold` (a second one is `WARM.cold2`), that sends from this
address under this name, has everything else of the warm one, and gets its `max-cold-virtual-mta-msg`.
"""

from __future__ import annotations

from mta.config.directives import TABLE
from mta.config.draft import Draft, OwnerDraft
from mta.config.kinds import Scope
from mta.config.problems import Problems
from mta.config.settings import Setting, WrittenLine

__all__ = ["expand_cold_lines"]

_NAME = "auto-cold-virtual-mta"

#: What a cold virtual MTA does not take over: the warm one's addresses, and its cold ones.
_OWN = frozenset(
    {
        "smtp-source-host",
        "smtp-source-ip",
        "smtp-proxy-source-host",
        "use-proxy",
        "proxy-protocol",
        "cold-virtual-mta",
        _NAME,
    }
)


def expand_cold_lines(draft: Draft, problems: Problems) -> dict[str, str]:
    """Add what the lines stand for to the draft; returns the warm virtual MTA of each new one."""
    warm_of: dict[str, str] = {}
    for warm in list(draft.vmtas.values()):
        setting = warm.layer.get(_NAME)
        for number, line in enumerate(setting.lines if setting is not None else (), 1):
            name = f"{warm.name}.cold{number if number > 1 else ''}"
            if name in draft.vmtas or name in draft.pools:
                problems.error(
                    line.origin,
                    f"{_NAME} makes the virtual MTA {name}, and there is one already",
                    f"write cold-virtual-mta {name}",
                )
                continue
            draft.vmtas[name] = _cold(name, warm, line)
            warm_of[name] = warm.name
            _add(warm, "cold-virtual-mta", WrittenLine(name, name, line.origin))
    return warm_of


def _cold(name: str, warm: OwnerDraft, line: WrittenLine) -> OwnerDraft:
    layer = {name: setting for name, setting in warm.layer.items() if name not in _OWN}
    cold = OwnerDraft(name, line.origin, layer, warm.domains, warm.keys)
    _add(cold, "smtp-source-host", line)
    return cold


def _add(owner: OwnerDraft, name: str, line: WrittenLine) -> None:
    """One more line of a repeatable directive."""
    row = TABLE.find(Scope.VIRTUAL_MTA, name)
    assert row is not None
    known = owner.layer.get(name)
    owner.layer[name] = Setting(row, ((*known.lines, line) if known is not None else (line,)))
