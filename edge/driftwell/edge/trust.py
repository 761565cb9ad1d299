"""The key whose signatures a device believes: the operator's, or the first one it ever saw."""

from typing import Final

import structlog

from driftwell.edge.spool import Spool

TRUSTED_KEY: Final = "trusted-key"

log = structlog.get_logger()


class Trust:
    """Whom the device believes."""

    def __init__(self, configured: str | None, spool: Spool) -> None:
        """Believe the key in 64 hexadecimal digits; None: the first one."""
        self._configured = configured
        self._spool = spool

    def key(self, claimed: bytes) -> bytes:
        """The key to verify with, where a message claims one; both are 32 bytes."""
        if self._configured:
            return bytes.fromhex(self._configured)
        known = self._spool.recall(TRUSTED_KEY)
        if known is None:
            log.info("version.trusting-first-key", key=claimed.hex())
        return known or claimed

    def keep(self, key: bytes) -> None:
        """Note that something signed with a key has verified."""
        self._spool.remember(TRUSTED_KEY, key)
