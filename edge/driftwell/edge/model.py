"""What a node needs of the model it runs: a bundle in one piece has it, and a modular one."""

from typing import Protocol

from driftwell.messages.delta import AdaptableState
from driftwell.models.manifest import BundleManifest
from driftwell.models.network import Network
from driftwell.models.own_statistics import StatisticsSettings


class Model(Protocol):
    """What a node needs to know of a bundle; any bundle will do."""

    @property
    def digest(self) -> str:
        """Its name on the wire."""

    @property
    def manifest(self) -> BundleManifest:
        """What it says about itself."""

    @property
    def source(self) -> AdaptableState:
        """The adaptable state that versions start from."""

    def network(self, *, own_statistics: StatisticsSettings | None = None) -> Network:
        """A network of the node's own, in the source state."""
