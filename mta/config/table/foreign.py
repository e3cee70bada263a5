"""Names that circulate in files and on web pages but were never PowerMTA's.

They are accepted with a warning that names the real thing, and never obeyed: guessing what somebody meant
by a name that never had a meaning would be worse than saying so.
"""

from __future__ import annotations

from mta.config.kinds import Directive, Kind, Scope, Status
from mta.config.table.places import only

__all__ = ["ROWS"]

_TOP = only(Scope.GLOBAL)
_OUTBOUND = only(Scope.GLOBAL, Scope.DOMAIN, Scope.VIRTUAL_MTA, Scope.POOL)
_PROCESSORS = only(Scope.BOUNCE_PROCESSOR, Scope.FEEDBACK_LOOP_PROCESSOR)
_REPLIES = only(Scope.SMTP_PATTERN_LIST)


def _foreign(name: str, scopes: frozenset[Scope], hint: str, kind: Kind = Kind.NOTHING) -> Directive:
    """A row for a name that is nobody's."""
    doc = "Not a PowerMTA directive; accepted and not obeyed."
    return Directive(name, scopes, kind, None, doc, Status.FOREIGN, repeatable=True, hint=hint)


ROWS: tuple[Directive, ...] = (
    _foreign("max-rcpt-rate", _OUTBOUND, "write max-msg-rate"),
    _foreign("max-conn-rate", _OUTBOUND, "write max-connect-rate"),
    _foreign("max-smtp-connections", _OUTBOUND, "write max-smtp-out"),
    _foreign("retry-upon-5xx", _OUTBOUND, "a 5xx is final"),
    _foreign("defer-after", _OUTBOUND, "write retry-after"),
    _foreign("dkim-key", _OUTBOUND, "write domain-key SELECTOR,DOMAIN,FILE"),
    _foreign("dkim-domain", _OUTBOUND, "write domain-key SELECTOR,DOMAIN,FILE"),
    _foreign("dkim-selector", _OUTBOUND, "write domain-key SELECTOR,DOMAIN,FILE"),
    _foreign("bounce-address", _OUTBOUND, "the envelope sender gets the DSN"),
    _foreign("source", only(Scope.VIRTUAL_MTA), "write smtp-source-host IP NAME"),
    _foreign("weight", only(Scope.POOL), "members of a pool take equal turns"),
    _foreign("add-vmta", only(Scope.POOL), "write virtual-mta NAME"),
    _foreign("deliver-unmatched-to", _PROCESSORS, "write forward-unmatched-to"),
    _foreign("check-source-auth", only(Scope.GLOBAL, Scope.SOURCE), "write require-auth"),
    _foreign("bounce-classification-file", _TOP, "write <bounce-category-patterns>"),
    _foreign("routing-file", _TOP, "write smtp-hosts in <domain>"),
    _foreign("domain-selection", only(Scope.GLOBAL, Scope.POOL), "write <pattern-list>"),
    _foreign("pid-file", _TOP, "the service manager knows the process"),
    _foreign("log-max-size", _TOP, "rotate the log from outside"),
    _foreign("spool-dir", _TOP, "write spool DIR"),
    _foreign("http-listener", _TOP, "write http-mgmt-port"),
    _foreign("mode=retry", _REPLIES, "write defer-queue", Kind.ENTRY),
    _foreign("mode=defer", _REPLIES, "write defer-queue", Kind.ENTRY),
    _foreign("mode=temporary", _REPLIES, "write defer-queue", Kind.ENTRY),
)
