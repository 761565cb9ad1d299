"""Pure. What can be told of a modular model, where the edge bundle is one."""

from typing import Annotated

import msgspec

from driftwell.cloud.modular.catalogue import FoldSettings
from driftwell.cloud.modular.fleet import FleetSettings
from driftwell.cloud.modular.offline_settings import RefinementSettings


class ModuleSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How modules are planned for devices, refined for them, and folded together."""

    fold: FoldSettings = FoldSettings()
    fleet: FleetSettings = FleetSettings()
    refinement: RefinementSettings = RefinementSettings()
    time_limit_s: Annotated[float, msgspec.Meta(gt=0, le=60)] = 1.0
    """For the exact choice of a device's modules; then the best so far is taken."""
