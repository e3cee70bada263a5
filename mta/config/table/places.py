"""Short names for the scope sets that rows are written with."""

from __future__ import annotations

from mta.config.kinds import Scope

__all__ = [
    "ACCT_FILE",
    "DOMAIN",
    "EGRESS",
    "GLOBAL",
    "LISTENER",
    "LISTENERS",
    "POOL",
    "SOURCE",
    "TOP_AND_DOMAIN",
    "VIRTUAL_MTA",
    "only",
]


def only(*scopes: Scope) -> frozenset[Scope]:
    """The set of `scopes`, for the rows of one module."""
    return frozenset(scopes)


GLOBAL = only(Scope.GLOBAL)
SOURCE = only(Scope.SOURCE)
DOMAIN = only(Scope.DOMAIN)
VIRTUAL_MTA = only(Scope.VIRTUAL_MTA)
POOL = only(Scope.POOL)
ACCT_FILE = only(Scope.ACCT_FILE)
LISTENER = only(Scope.LISTENER)
LISTENERS = only(Scope.LISTENER, Scope.TRANSMISSIONS_API_LISTENER)
#: What a sending identity may override.
EGRESS = only(Scope.GLOBAL, Scope.VIRTUAL_MTA, Scope.POOL)
#: At top level such a row means the same as inside `<domain *>`. (So do all other rows of `<domain>` that are
#: met there, but with a warning: PowerMTA would refuse them.)
TOP_AND_DOMAIN = only(Scope.GLOBAL, Scope.DOMAIN)
