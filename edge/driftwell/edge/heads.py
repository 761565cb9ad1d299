"""The versions a device takes: verified, offered to the node, and kept over a restart."""

from collections.abc import Callable
from typing import Final

import structlog

from driftwell.edge.domains import decode_memory
from driftwell.edge.events import Refusals
from driftwell.edge.node import EdgeNode
from driftwell.edge.spool import Spool
from driftwell.edge.trust import Trust
from driftwell.messages.codec import decode
from driftwell.messages.errors import WireError
from driftwell.messages.head import Head, Manifest
from driftwell.messages.names import domain_name, split_domain
from driftwell.messages.signing import verify_head

LAST_HEAD: Final = "head"
DOMAINS: Final = "domains"

log = structlog.get_logger()


def head_name(domain: int) -> str:
    """Under which the newest head of a domain is remembered."""
    return domain_name(LAST_HEAD, domain)


class Heads:
    """Takes heads for one node."""

    def __init__(
        self,
        node: EdgeNode,
        spool: Spool,
        trust: Trust,
        refusals: Refusals,
        *,
        wall_ns: Callable[[], int],
        limit_bytes: int,
    ) -> None:
        self._node = node
        self._spool = spool
        self._trust = trust
        self._refusals = refusals
        self._wall_ns = wall_ns
        self._limit_bytes = limit_bytes
        self.decided: dict[int, int] = {}
        """The newest version that was taken or refused, by domain."""

    def take(self, head: Head, payload: bytes) -> None:
        """Verify a head and offer its version to the node; a refusal is reported with its code."""
        before = self._node.domains.bank.known
        manifest = self._offer(head)
        if manifest is None:
            return
        self._spool.remember(head_name(split_domain(manifest.cohort)[1]), payload)
        for gone in before - self._node.domains.bank.known:
            self._spool.forget(head_name(gone))
        self._spool.remember(DOMAINS, self._node.memory())

    def restore(self) -> None:
        """Go on with the versions the device last took, without waiting for the broker."""
        memory = decode_memory(self._spool.recall(DOMAINS))
        for domain in memory.known if memory else [0]:
            self._restore_head(head_name(domain))
        if memory is not None and not self._node.remember(memory):
            log.warning("domains.forgotten", reason="another cohort or model bundle")

    def _offer(self, head: Head) -> Manifest | None:
        """The version, if the node took it and it was news."""
        manifest: Manifest | None = None
        is_news = False
        try:
            manifest = verify_head(head, self._trust.key(head.key))
            self._trust.keep(head.key)
            is_news = self._node.offer(manifest, now_ns=self._wall_ns())
        except WireError as error:
            self._refusals.note("version", manifest.version if manifest else 0, error)
        if manifest:
            domain = split_domain(manifest.cohort)[1]
            self.decided[domain] = max(self.decided.get(domain, 0), manifest.version)
        return manifest if is_news else None

    def _restore_head(self, name: str) -> None:
        payload = self._spool.recall(name)
        if payload is None:
            return
        try:
            head = decode(payload, limit_bytes=self._limit_bytes)
            if isinstance(head, Head):
                self._offer(head)
        except WireError as error:  # damaged on disk: the source state answers until a head comes
            log.warning("version.not-restored", error=str(error))
            self._spool.forget(name)
