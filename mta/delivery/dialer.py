"""From ordered targets to one connection that is ready for mail.

Targets are tried in the order given, those that failed a moment ago last, those that asked us to go elsewhere
not at all for a while. A target whose STARTTLS breaks is tried once more in plain text, unless TLS is
required, and remembered too: half a handshake per connection helps nobody. The memories are bounded and
forgotten at restart.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence

from mta.clock import Clock
from mta.config.proxy import Proxy
from mta.delivery.connection import Connection, DialFailure, HostsCrowded, TargetLike
from mta.delivery.dialogue import Dialogue
from mta.delivery.handshake import Handshake, ProxyDown, TlsBroken
from mta.delivery.policy import DeliveryPolicy
from mta.delivery.tls import TlsContexts
from mta.errors import ConfigError
from mta.smtp.opening import Offers
from mta.smtp.transaction import internal_reply

__all__ = ["Dialer"]

log = logging.getLogger(__name__)

#: How long (seconds) a target that gave no connection is tried after the others.
BAD_TARGET_LASTS = 60.0
#: How long a target that is to be left alone (skip-mx, 421) is not tried at all.
AVOIDANCE_LASTS = 60.0
#: How long a target with broken TLS is spoken to in plain text at once.
BROKEN_TLS_LASTS = 600.0
#: Targets remembered, per memory.
REMEMBERED = 10_000


class Dialer:
    """Opens connections; one per worker, since what it remembers is worth sharing."""

    def __init__(self, *, clock: Clock, contexts: TlsContexts | None = None) -> None:
        self._clock = clock
        self._contexts = contexts or TlsContexts()
        self._bad: dict[tuple[str, int], float] = {}
        self._avoided: dict[tuple[str, int], float] = {}
        self._tls_broken: dict[tuple[str, int], float] = {}
        self._offers = Offers()
        self._dialogue: Dialogue | None = None
        self.attempts = 0
        self.failures = 0

    def watched(self, dialogue: Dialogue) -> Dialer:
        """The same dialer, with the same memories, that writes down what is said."""
        watched = copy.copy(self)
        watched._dialogue = dialogue
        return watched

    async def dial(
        self,
        targets: Sequence[TargetLike],
        *,
        source_ip: str,
        host_name: str,
        policy: DeliveryPolicy,
        gives_up: Callable[[DialFailure], bool] = lambda failure: False,
        proxies: Sequence[Proxy] = (),
        enters: Callable[[TargetLike], bool] = lambda target: True,
    ) -> Connection:
        """The first connection that comes about, from `source_ip` ("" = any), saying EHLO `host_name`.

        `enters` is asked before each target is tried and says whether it may be; raises HostsCrowded when
        none may. `gives_up` hears of each target that failed and says whether the others need not be tried.
        Raises DialFailure with what the last target said when there is no connection. With `proxies` it goes
        through the first of them that is up, from that one's address and under its name.
        """
        if not proxies:
            return await self._dial(targets, source_ip, host_name, policy, gives_up, None, enters)
        for number, proxy in enumerate(proxies, 1):
            try:
                return await self._dial(
                    targets, proxy.client_ip, proxy.host_name, policy, gives_up, proxy, enters
                )
            except ProxyDown as failure:
                log.warning("proxy=%s:%d event=down error=%r", proxy.host, proxy.port, str(failure))
                if number == len(proxies):
                    raise
        raise AssertionError("unreachable")

    async def _dial(
        self,
        targets: Sequence[TargetLike],
        source_ip: str,
        host_name: str,
        policy: DeliveryPolicy,
        gives_up: Callable[[DialFailure], bool],
        proxy: Proxy | None,
        enters: Callable[[TargetLike], bool],
    ) -> Connection:
        last: DialFailure | None = None
        are_all_refusals = True
        attempts, is_crowded = 0, False
        for target in self._in_order(targets, source_ip):
            if attempts == policy.mx_connection_attempts:
                break
            if not enters(target):
                is_crowded = True
                continue
            attempts += 1
            try:
                return await self._reach(target, source_ip, host_name, policy, proxy)
            except ProxyDown:
                raise
            except DialFailure as failure:
                last = failure
                are_all_refusals = are_all_refusals and failure.is_refusal
                self.note_bad(target)
                if gives_up(failure):
                    break
        if last is None and is_crowded:
            raise HostsCrowded
        if last is None:
            raise DialFailure(internal_reply(451, "4.4.4", self._why_none(targets)))
        last.is_refusal = are_all_refusals
        raise last

    def note_bad(self, target: TargetLike) -> None:
        """Try this target after the others for a while."""
        _remember(self._bad, (target.ip, target.port), self._clock.now() + BAD_TARGET_LASTS)

    def avoid(self, target: TargetLike) -> None:
        """Leave this target alone for a while: its word was that others should have the mail."""
        _remember(self._avoided, (target.ip, target.port), self._clock.now() + AVOIDANCE_LASTS)

    async def _reach(
        self,
        target: TargetLike,
        source_ip: str,
        host_name: str,
        policy: DeliveryPolicy,
        proxy: Proxy | None,
    ) -> Connection:
        with_tls = policy.tls.require or (policy.tls.use and not self._is_in(self._tls_broken, target))
        try:
            return await self._attempt(target, source_ip, host_name, policy, with_tls, proxy)
        except TlsBroken as failure:
            if policy.tls.require:
                raise
            log.info("tls=broken remote=%r error=%r next=plaintext", failure.facts.mta_name, str(failure))
            _remember(self._tls_broken, (target.ip, target.port), self._clock.now() + BROKEN_TLS_LASTS)
        return await self._attempt(target, source_ip, host_name, policy, False, proxy)

    async def _attempt(
        self,
        target: TargetLike,
        source_ip: str,
        host_name: str,
        policy: DeliveryPolicy,
        with_tls: bool,
        proxy: Proxy | None,
    ) -> Connection:
        self.attempts += 1
        try:
            tls = self._contexts.context(policy.tls) if with_tls else None
        except ConfigError as error:
            log.error("tls=unusable error=%r", str(error))
            if policy.tls.require:
                raise DialFailure(internal_reply(451, "4.3.5", str(error))) from error
            tls = None
        handshake = Handshake(
            target,
            source_ip=source_ip,
            host_name=host_name,
            policy=policy,
            tls=tls,
            offers=self._offers,
            clock=self._clock,
            proxy=proxy,
        )
        if self._dialogue is not None:
            handshake.watch(self._dialogue)
        try:
            return await handshake.perform()
        except DialFailure:
            self.failures += 1
            raise

    def _in_order(self, targets: Sequence[TargetLike], source_ip: str) -> list[TargetLike]:
        """Those of the source address's family that are not avoided; recent failures behind the others."""
        if source_ip:
            targets = [target for target in targets if (":" in target.ip) == (":" in source_ip)]
        if self._avoided:
            targets = [target for target in targets if not self._is_in(self._avoided, target)]
        if not self._bad or len(targets) < 2:
            return list(targets)
        return sorted(targets, key=lambda target: self._is_in(self._bad, target))

    def _why_none(self, targets: Sequence[TargetLike]) -> str:
        if any(self._is_in(self._avoided, target) for target in targets):
            return "every host wants us elsewhere"
        return "no address of the source address's family" if targets else "no address to connect to"

    def _is_in(self, memory: dict[tuple[str, int], float], target: TargetLike) -> bool:
        return memory.get((target.ip, target.port), 0.0) > self._clock.now()

    def __repr__(self) -> str:
        return f"<Dialer {self.attempts} attempts, {self.failures} failed>"


def _remember(memory: dict[tuple[str, int], float], key: tuple[str, int], until: float) -> None:
    memory.pop(key, None)
    if len(memory) >= REMEMBERED:
        del memory[next(iter(memory))]
    memory[key] = until
