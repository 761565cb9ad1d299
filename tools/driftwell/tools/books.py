"""Pure. Whether the books balance: what every device selected against what became of it.

    selected = trained + rejected + expired + dropped + still under way

The edge knows what it selected, dropped and still holds; the cloud knows the rest.
"""

from collections.abc import Mapping
from dataclasses import dataclass

Books = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Balance:
    """One device's books, both sides put together."""

    device: str
    selected: int
    trained: int
    expired: int
    rejected: dict[str, int]
    dropped: dict[str, int]
    under_way: int
    """In the device's spool and not yet stored, or stored and waiting for a step."""
    is_consistent: bool
    """What the device knows to be stored is stored, and no more than it could have sent."""

    @property
    def difference(self) -> int:
        """Samples unaccounted for; 0 when the books balance."""
        settled = self.trained + self.expired + sum(self.rejected.values())
        return self.selected - settled - sum(self.dropped.values()) - self.under_way

    @property
    def is_balanced(self) -> bool:
        """Whether every sample has exactly one fate."""
        return self.is_consistent and self.difference == 0


def balance(device: str, edge: Books, cloud: Books) -> Balance:
    """Put a device's own books and the cloud's books on it together."""
    trained, expired, pending = (cloud.get(entry, 0) for entry in ("trained", "expired", "pending"))
    # What the cloud counted when it stored, against what it can still show for it.
    stored = cloud.get("stored", 0)
    shown = trained + expired + cloud.get("rejected:diverged", 0) + pending
    # A batch the cloud has stored may still be in the spool, its ack under way.
    acknowledged = edge.get("acknowledged", 0)
    spooled = edge.get("spooled", 0)
    not_stored = spooled - (stored - acknowledged)
    return Balance(
        device=device,
        selected=edge.get("selected", 0),
        trained=trained,
        expired=expired,
        # Refused batches are counted by the edge, which learns of each exactly once; what
        # the cloud stored and then could not use is known only there.
        rejected=_with_prefix(edge, "rejected:")
        | _with_prefix(cloud, "rejected:diverged", "diverged"),
        dropped=_with_prefix(edge, "dropped:"),
        under_way=pending + not_stored,
        is_consistent=shown == stored and 0 <= stored - acknowledged <= spooled,
    )


def _with_prefix(books: Books, prefix: str, name: str = "") -> dict[str, int]:
    return {
        name or entry.removeprefix(prefix): count
        for entry, count in sorted(books.items())
        if entry.startswith(prefix)
    }
