"""What is in force in one process: the configuration, and what is worked out of it.

A reload replaces all of it in one step. Whoever lives longer than a configuration asks here each time.
"""

from __future__ import annotations

import platform

from mta.config.categories import default_categories
from mta.config.snapshot import Snapshot
from mta.delivery.policy import DeliveryPolicy
from mta.queue.classify import Classifier
from mta.queue.hosts import HostLimits
from mta.queue.key import QueueKey
from mta.queue.policy import QueuePolicy, VmtaPolicy
from mta.queue.reaction import ReplyRules
from mta.routing.policy import RoutePolicy
from mta.service.policybook import PolicyBook

__all__ = ["InForce", "make_classifier"]


class InForce:
    """The snapshot in force, its policies and its bounce categories."""

    def __init__(self, snapshot: Snapshot) -> None:
        """Raises ConfigError."""
        self.follow(snapshot, make_classifier(snapshot))

    def __repr__(self) -> str:
        return f"<InForce epoch={self.snapshot.epoch}>"

    def follow(self, snapshot: Snapshot, classifier: Classifier) -> None:
        """Another configuration, with the bounce categories that were made of it."""
        self.snapshot = snapshot
        self.classifier = classifier
        self._book = PolicyBook(snapshot)

    def host_name(self) -> str:
        """What we call ourselves where nothing else is configured."""
        return self.snapshot.host_name() or platform.node()

    def queue(self, key: QueueKey) -> QueuePolicy:
        """How much, how fast, how often again."""
        return self._book.queue(key)

    def vmta(self, name: str) -> VmtaPolicy:
        """The sources and limits of a virtual MTA."""
        return self._book.vmta(name)

    def hosts(self) -> HostLimits:
        """How many connections single hosts may have."""
        return self._book.hosts()

    def delivery(self, key: QueueKey) -> DeliveryPolicy:
        """How to speak to the receivers of a queue."""
        return self._book.delivery(key)

    def route(self, key: QueueKey) -> RoutePolicy:
        """Where the mail of a queue goes."""
        return self._book.route(key)

    def rules(self, key: QueueKey) -> ReplyRules:
        """What replies to the mail of a queue mean."""
        return self._book.rules(key)


def make_classifier(snapshot: Snapshot) -> Classifier:
    """The operator's bounce categories, or our own list. Raises ConfigError."""
    return Classifier(snapshot.bounce_categories() or default_categories())
