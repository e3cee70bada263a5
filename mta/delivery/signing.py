"""Which signatures a message gets on its way out, and where the work is done.

The keys and rules are those of one snapshot; `reload` brings the next one. For each message the queue's rule
(`dkim-sign` and its companions) names an identity, the identity's domain finds keys, and each key makes one
DKIM-Signature field. An identity that is covered by an RSA and by an Ed25519 key for the same domain gets
both signatures.

Cheap keys (Ed25519, RSA below 1,536 bits) sign at once: anything else costs as much as it saves. RSA-2048
takes 0.3 ms. Where a processor is free for it (`spare`), those signatures are made in processes of their own
(`signatory`); asking costs some ten microseconds. Where workers keep every processor busy, or the processes
have enough to do, the loop makes them itself, and puts off to its next turn what would hold up everybody else
for too long (docs/decisions/0012).

Mail is never lost here: a message that can't be signed (no From, no fitting key, an error of ours) goes out
as it is; an error of ours is logged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from operator import itemgetter
from typing import NamedTuple

from mta.clock import Clock
from mta.config.settings import Settings
from mta.config.snapshot import Snapshot
from mta.delivery.dkimoptions import DkimOptions
from mta.delivery.keyring import KeyRing
from mta.delivery.signatory import Signatory
from mta.delivery.signingrule import Identity, SigningRule
from mta.errors import ConfigError
from mta.message import headers
from mta.message.author import author_places
from mta.message.canonical import KEPT_SHAPES, LARGEST_SHAPE, Signable
from mta.message.dkim import DkimSigner, Draft, SignPolicy
from mta.message.domainkey import DkimKey
from mta.message.envelope import Envelope
from mta.smtp.address import is_valid_domain

__all__ = ["Signer", "SignerStats", "SigningJob"]

log = logging.getLogger(__name__)

#: Signatures kept for retries and further recipients of the same message; about 1 KB each.
KEPT_SIGNATURES = 4096
#: Signing identities kept ready; a new one costs a few microseconds.
KEPT_IDENTITIES = 16384
#: Signatures that wait for one process: more work than a turn of our loop lasts, so that it is never idle.
MOST_ASKED = 256
#: More processes than this are of no use to one loop.
MOST_SIGNATORIES = 4
#: How long (seconds) we do without another one after one was lost.
PAUSE = 5.0
#: How long (seconds) slow keys may hold up one turn of the loop; the signature that is under way then ends.
LONGEST_IN_TURN = 0.01
#: A larger message (octets) is hashed in a thread in any case: the loop would stand still for it.
DRAFTED_AT_ONCE = 256 << 10
Done = Callable[[bytes], None]
#: What a message's Sender and From say, to recognise it; and what takes it out of the values of all fields.
Author = bytes | tuple[bytes, ...]
AuthorOf = Callable[[tuple[bytes, ...]], Author]


class SignerStats(NamedTuple):
    """Counts since start: signatures made, answers from memory, messages waiting for theirs now."""

    signatures: int
    from_memory: int
    waiting: int


class SignerSet(NamedTuple):
    """Who signs a message, in the order of the fields, and whether one of them needs long for it."""

    signers: tuple[DkimSigner, ...] = ()
    is_slow: bool = False

    @classmethod
    def of(cls, signers: tuple[DkimSigner, ...]) -> SignerSet:
        return cls(signers, any(signer.key.is_slow for signer in signers))


class SigningJob(NamedTuple):
    """One message that is being signed, with everybody who waits for it.

    `drafts` is None for a message that is too large to be hashed on the loop; `signatory` is the process that
    has time for others.
    """

    place: tuple[int, int]
    signable: Signable
    signers: tuple[DkimSigner, ...]
    now: float
    waiters: list[Done]
    drafts: list[Draft] | None
    signatory: Signatory | None
    seals: list[bytes | None]  # what came back from a process; None for one that is gone


class Signer:
    """Signs for one event loop; every method is called on it."""

    def __init__(
        self, snapshot: Snapshot, clock: Clock, loop: asyncio.AbstractEventLoop, *, spare: int = 0
    ) -> None:
        """Read all keys; raises ConfigError when one can't be used. `spare`: the attribute of that name."""
        self._clock = clock
        self._loop = loop
        #: Processors with nothing else to do than sign; 0 = sign on the loop.
        self.spare = spare
        self._signatories: list[Signatory] = []
        self._none_before = 0.0  # no new one earlier than that
        self._thread: ThreadPoolExecutor | None = None  # for large messages
        self._put_off: deque[SigningJob] = deque()  # for the next turns of the loop itself
        self._spent = 0.0  # seconds of this turn
        self._is_turn_counted = False
        self._jobs: dict[tuple[int, int], SigningJob] = {}
        self._signatures = 0
        self._from_memory = 0
        self._use(snapshot, KeyRing.load(snapshot))

    def reload(self, snapshot: Snapshot, keys: KeyRing | None = None) -> None:
        """Go over to another snapshot, with the keys its check has already read if there are any.

        Raises ConfigError, and changes nothing, when a key of it can't be used.
        """
        self._use(snapshot, keys or KeyRing.load(snapshot, self._keys))
        for signatory in self._signatories:
            signatory.forget_keys()

    def headers(
        self, envelope: Envelope, body: bytes, message: int, domain: str | None = None
    ) -> bytes | SigningJob:
        """The fields to put in front of a message, b"" for none; or what to `prepare`, as it takes a while.

        `body` is the whole message in wire form, `message` its number in the spool, `domain` the queue's
        (without it that of the first recipient). Hot path.
        """
        if not envelope.sign:
            return b""
        queue = envelope.recipients[0].queue_domain if domain is None else domain
        try:
            rule = self._queues[queue, envelope.vmta]
        except KeyError:
            rule = self._queue_rule(queue, envelope.vmta)
        if rule is None:
            return b""
        place = (message, rule[0])
        kept = self._kept.get(place) or self._kept_before.get(place)
        if kept is not None:
            self._from_memory += 1
            return kept
        signable = Signable(body)
        signers, is_slow = self._signers(rule[1], envelope, signable)
        if not signers:
            return b""
        now = self._clock.wall()
        if len(body) > DRAFTED_AT_ONCE:
            return SigningJob(place, signable, signers, now, [], None, None, [])
        if not is_slow:
            return self._keep(place, self._seal(self._draft(signable, signers, now)))
        drafts = self._draft(signable, signers, now)
        if not drafts:
            return b""
        signatory = self._signatory()
        if signatory is not None or self._put_off or self._spent >= LONGEST_IN_TURN:
            return SigningJob(place, signable, signers, now, [], drafts, signatory, [])
        return self._keep(place, self._seal_in_turn(drafts))

    def prepare(self, job: SigningJob, done: Done) -> None:
        """Sign, elsewhere where that pays, and call `done` with the fields.

        `job` is from the same turn of the loop; `done` runs in another one.
        """
        running = self._jobs.setdefault(job.place, job)
        running.waiters.append(done)
        if running is not job or len(job.waiters) > 1:
            return
        if job.drafts is None:
            if self._thread is None:
                self._thread = ThreadPoolExecutor(1, thread_name_prefix="dkim")
            self._thread.submit(self._work, job)
            return
        signatory = job.signatory
        if signatory is None:
            self._put_off.append(job)
            self._count_turn()
            return
        for draft in job.drafts:
            if draft.key.is_slow:
                signatory.ask(draft.key, draft.digest(), partial(self._sealed, job))

    @property
    def processes(self) -> list[int]:
        """The ids of the processes that sign for us."""
        return [signatory.pid for signatory in self._signatories]

    def stats(self) -> SignerStats:
        return SignerStats(self._signatures, self._from_memory, len(self._jobs))

    def close(self) -> None:
        """Stop; messages still waiting get no answer any more."""
        self._put_off.clear()
        self._jobs.clear()
        for signatory in self._signatories:
            signatory.close()
        self._signatories.clear()
        if self._thread is not None:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._thread = None

    def _use(self, snapshot: Snapshot, keys: KeyRing) -> None:
        self._snapshot = snapshot
        self._keys = keys
        self._queues: dict[tuple[str, str], tuple[int, SigningRule] | None] = {}  # by domain and vMTA
        self._rules: dict[Settings, tuple[int, SigningRule] | None] = {}
        self._numbers: dict[SigningRule, int] = {}
        self._identities: dict[tuple[int, str, str], tuple[DkimSigner, ...]] = {}
        self._by_author: dict[tuple[int, str, Author], SignerSet] = {}
        self._authors: dict[tuple[bytes, ...], AuthorOf] = {}  # by the names of a message's fields
        self._kept: dict[tuple[int, int], bytes] = {}
        self._kept_before: dict[tuple[int, int], bytes] = {}

    def _queue_rule(self, domain: str, vmta: str) -> tuple[int, SigningRule] | None:
        """The rule of a queue; remembered as long as this configuration is in force."""
        if len(self._queues) >= KEPT_IDENTITIES:
            self._queues.clear()
        found = self._queues[domain, vmta] = self._rule(self._snapshot.effective(domain, vmta))
        return found

    def _rule(self, settings: Settings) -> tuple[int, SigningRule] | None:
        """The rule that these settings ask for with its number (equal rules have one number); None = not to
        be signed."""
        try:
            return self._rules[settings]
        except KeyError:
            pass
        rule = None
        try:
            rule = SigningRule.from_settings(settings)
        except ValueError as error:
            log.error("dkim-headers=unusable reason=%s", error)
        found = None if rule is None else (self._numbers.setdefault(rule, len(self._numbers)), rule)
        self._rules[settings] = found
        return found

    def _signers(self, rule: SigningRule, envelope: Envelope, message: Signable) -> SignerSet:
        if envelope.dkim_options:
            found = self._asked_for(rule, envelope, message.block)
            return SignerSet.of(found + self._second_signers(rule, envelope.vmta, message.block))
        if rule.only_when_asked and not headers.has(message.block, b"x-dkim-options"):
            return SignerSet()
        names, values = message.relaxed
        try:
            author = self._authors[names](values)
        except KeyError:
            author = self._author_of(names)(values)
        place = (id(rule), envelope.vmta, author)
        try:
            return self._by_author[place]
        except KeyError:
            pass
        signers = self._look_up_signers(rule, envelope.vmta, message.block)
        signers += self._second_signers(rule, envelope.vmta, message.block)
        if len(self._by_author) >= KEPT_IDENTITIES:
            self._by_author.clear()
        found_set = self._by_author[place] = SignerSet.of(signers)
        return found_set

    def _second_signers(self, rule: SigningRule, vmta: str, block: bytes) -> tuple[DkimSigner, ...]:
        return self._look_up_signers(rule.second, vmta, block) if rule.second is not None else ()

    def _author_of(self, names: tuple[bytes, ...]) -> AuthorOf:
        """What finds the author's fields among the values of a message with these fields."""
        places = author_places(names)
        found: AuthorOf = itemgetter(*places) if places else lambda values: b""
        if len(names) <= LARGEST_SHAPE:
            if len(self._authors) >= KEPT_SHAPES:
                self._authors.clear()
            self._authors[names] = found
        return found

    def _asked_for(self, rule: SigningRule, envelope: Envelope, block: bytes) -> tuple[DkimSigner, ...]:
        """The signers that the message's own options name, as far as we have keys for them."""
        options = DkimOptions.parse(envelope.dkim_options)
        identity = options.identity or rule.identity
        domain = identity.domain(block)
        if not domain or not is_valid_domain(domain):
            return ()
        keys: tuple[DkimKey, ...]
        if envelope.dkim_key:
            try:
                keys = (options.own_key(envelope.dkim_key, domain),)
            except ConfigError as error:
                log.warning("queue_id=%s dkim=no-signature reason=%r", envelope.queue_id, str(error))
                return ()
        else:
            keys = self._keys.listed(options.key_list) if options.key_list else self._keys.keys(envelope.vmta)
        if options.selector:
            keys = tuple(key for key in keys if key.selector == options.selector)
        return _make_signers(options.applied(rule.policy), keys, domain, identity, rule.algorithm)

    def _look_up_signers(self, rule: SigningRule, vmta: str, block: bytes) -> tuple[DkimSigner, ...]:
        """The signers of the identity, or of the fallback when no key fits the identity."""
        for identity in (rule.identity, rule.fallback):
            if identity is None:
                continue
            domain = identity.domain(block)
            # A key for any domain signs as whatever the message claims, so the claim has to be a domain.
            if not domain or not is_valid_domain(domain):
                continue
            place = (id(rule), identity.tag or domain, vmta)
            signers = self._identities.get(place)
            if signers is None:
                keys = self._keys.keys(vmta)
                signers = _make_signers(rule.policy, keys, domain, identity, rule.algorithm)
                if len(self._identities) >= KEPT_IDENTITIES:
                    self._identities.clear()
                self._identities[place] = signers
            if signers:
                return signers
        return ()

    def _seal_in_turn(self, drafts: list[Draft]) -> bytes:
        """Sign on the loop, on account of this turn of it."""
        self._count_turn()
        begun = self._clock.now()
        fields = self._seal(drafts)
        self._spent += self._clock.now() - begun
        return fields

    def _count_turn(self) -> None:
        if not self._is_turn_counted:
            self._is_turn_counted = True
            self._loop.call_soon(self._next_turn)

    def _next_turn(self) -> None:
        """Go on with what the turn before had no time for."""
        self._is_turn_counted = False
        self._spent = 0.0
        while self._put_off and self._spent < LONGEST_IN_TURN:
            job = self._put_off.popleft()
            self._answer(job, self._seal_in_turn(job.drafts or []))

    def _signatory(self) -> Signatory | None:
        """The process with the least to do, None when each has enough; started when there are not all yet."""
        if not self.spare:
            return None
        found = self._signatories
        if len(found) < min(self.spare, MOST_SIGNATORIES) and self._none_before <= self._clock.now():
            try:
                found.append(Signatory(self._loop, self._lost))
            except OSError as error:
                log.error("event=no-signing-process error=%s", error.strerror)
                self._none_before = self._clock.now() + PAUSE
        best = min(found, key=Signatory.load, default=None)
        return best if best is not None and best.load() < MOST_ASKED else None

    def _lost(self, signatory: Signatory) -> None:
        self._signatories.remove(signatory)
        self._none_before = self._clock.now() + PAUSE

    def _sealed(self, job: SigningJob, seal: bytes | None) -> None:
        """A process has signed one of the drafts, in their order; or it is gone, and the loop does it."""
        drafts = job.drafts or []
        if seal and len(drafts) == 1:
            self._answer(job, drafts[0].sealed_with(seal))
            return
        job.seals.append(seal)
        if len(job.seals) < sum(draft.key.is_slow for draft in drafts):
            return
        if None in job.seals:
            self._put_off.append(job)
            self._count_turn()
            return
        seals = filter(None, job.seals)
        fields = [draft.sealed_with(next(seals)) if draft.key.is_slow else draft.sealed() for draft in drafts]
        self._answer(job, b"".join(fields))

    def _work(self, job: SigningJob) -> None:
        """In a thread: touches nothing of this object but what the job carries."""
        fields = self._seal(self._draft(job.signable, job.signers, job.now))
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(self._answer, job, fields)

    def _answer(self, job: SigningJob, fields: bytes) -> None:
        if self._jobs.get(job.place) is job:
            del self._jobs[job.place]
            self._keep(job.place, fields)
            for done in job.waiters:
                done(fields)

    def _draft(self, signable: Signable, signers: tuple[DkimSigner, ...], now: float) -> list[Draft]:
        drafts = []
        try:
            for signer in signers:
                draft = signer.draft(signable, now)
                if draft is not None:
                    drafts.append(draft)
        except Exception:
            log.exception("dkim=failed the message goes out without a signature")
            return []
        return drafts

    def _seal(self, drafts: list[Draft]) -> bytes:
        try:
            return b"".join([draft.sealed() for draft in drafts])
        except Exception:
            log.exception("dkim=failed the message goes out without a signature")
            return b""

    def _keep(self, place: tuple[int, int], fields: bytes) -> bytes:
        if fields:
            self._signatures += 1
            # Two halves instead of a queue: what was taken out of a dictionary's front is searched again.
            if len(self._kept) >= KEPT_SIGNATURES // 2:
                self._kept_before, self._kept = self._kept, {}
            self._kept[place] = fields
        return fields


def _make_signers(
    policy: SignPolicy, keys: tuple[DkimKey, ...], domain: str, identity: Identity, algorithm: bytes
) -> tuple[DkimSigner, ...]:
    return tuple(
        DkimSigner(key, policy, domain=key.signing_domain(domain), identity=identity.tag)
        for key in _fitting(keys, domain, algorithm)
    )


def _fitting(keys: tuple[DkimKey, ...], domain: str, algorithm: bytes = b"") -> list[DkimKey]:
    """The first key that covers the domain, and the first of the other algorithm with the same d=; with an
    `algorithm` the first of that alone, if there is one."""
    if algorithm:
        of_kind = [key for key in keys if key.algorithm == algorithm and key.covers(domain)]
        if of_kind:
            return of_kind[:1]
    chosen: list[DkimKey] = []
    for key in keys:
        if not key.covers(domain):
            continue
        if not chosen:
            chosen.append(key)
        elif key.algorithm != chosen[0].algorithm and key.signing_domain(domain) == chosen[0].signing_domain(
            domain
        ):
            # RSA on top: verifiers that look at one signature only know it.
            chosen.insert(0 if key.algorithm == b"rsa-sha256" else 1, key)
            break
    return chosen
