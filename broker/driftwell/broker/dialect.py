"""Pure. Which version of MQTT to speak on the next connection.

MQTT 5 first: with 3.1.1 a broker acknowledges what it refused. Brokers that do not know it
answer in three ways, all seen: a refusal that says so, a closed connection, silence. Only
the first is certain, so it alone overrules a version that has once been accepted.
"""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Dialect:
    """The version to speak, and whether the broker has shown that it speaks it."""

    is_v5: bool = True
    is_certain: bool = False

    def accepted(self) -> "Dialect":
        """The broker took this version: stay with it."""
        return replace(self, is_certain=True)

    def refused(self) -> "Dialect":
        """The broker said that it does not speak this version: speak the other one."""
        return Dialect(is_v5=not self.is_v5)

    def unanswered(self) -> "Dialect":
        """The broker was there and said nothing: perhaps it did not understand."""
        return self if self.is_certain else Dialect(is_v5=not self.is_v5)
