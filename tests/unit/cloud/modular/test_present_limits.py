"""What a device's model may take, from what it declares and what its readings say."""

import math
import sys
from pathlib import Path

import msgspec
import pytest
from tests.unit.cloud.modular.keeping import RESOURCES, memory, open_site

from driftwell.cloud.modular.fleet import FleetSettings
from driftwell.cloud.modular.limits import PressureSettings
from driftwell.cloud.modular.settings import ModuleSettings
from driftwell.edge.settings import ModelLimitSettings
from driftwell.messages.errors import InfeasibleBudgetError
from driftwell.messages.state import ModelLimits
from driftwell.messages.telemetry import Resources


@pytest.mark.parametrize("kind", [ModelLimits, ModelLimitSettings])
@pytest.mark.parametrize("latency_ms", [math.inf, math.nan, 0.0])
def test_no_limit_is_infinite(kind: type[msgspec.Struct], latency_ms: float) -> None:
    """Neither on the wire nor in a file: who has none leaves it out."""
    with pytest.raises(msgspec.ValidationError, match="latency_ms"):
        msgspec.convert({"latency_ms": latency_ms}, kind)


@pytest.mark.parametrize("latency_ms", [5e-324, 1e-300])
def test_a_limit_may_be_as_small_as_a_number(tmp_path: Path, latency_ms: float) -> None:
    """On a slow device it is nothing in the cloud's milliseconds; it is refused by code."""
    with open_site(tmp_path) as site:
        site.tell(latency_ms=2e4, limits=ModelLimits(latency_ms=latency_ms))
        derivation = site.keeper.next_derivation()
        assert derivation is not None
        with pytest.raises(InfeasibleBudgetError, match="latency_ms"):
            derivation.choose()


def test_a_limit_may_be_as_large_as_a_number(tmp_path: Path) -> None:
    """On a fast device it is more than any in the cloud's milliseconds; nothing is left out."""
    with open_site(tmp_path) as site:
        site.tell(latency_ms=2e-3, limits=ModelLimits(latency_ms=sys.float_info.max))
        manifest = site.derive()

    assert manifest is not None
    assert [len(layer) for layer in manifest.layers] == [6, 6]


def test_memory_that_is_given_up_is_not_taken_again(tmp_path: Path) -> None:
    """What a smaller sub-model leaves free is the reserve that was missing, and stays free."""
    pressure = PressureSettings(reserve_bytes=500)
    settings = ModuleSettings(fleet=FleetSettings(pressure=pressure))

    def machine(used_bytes: int) -> Resources:
        return msgspec.structs.replace(RESOURCES, memory_used_bytes=used_bytes)

    with open_site(tmp_path, settings=settings) as site:
        site.tell(resources=machine(1000))
        assert site.derive() is not None
        site.tell(resources=machine(1600), submodel=1)
        smaller = site.derive()
        for _ in range(3):
            site.tell(resources=machine(1500), submodel=2)
            site.wait(31)

            assert site.keeper.next_derivation() is None

    assert smaller is not None
    assert smaller.costs["memory_bytes"] == 100


def test_limits_that_wobble_below_the_smallest_are_refused_once(tmp_path: Path) -> None:
    """As long as none is enough it is not planned again; as soon as one is, it is."""
    with open_site(tmp_path) as site:
        site.tell(limits=memory(98))
        derivation = site.keeper.next_derivation()
        assert derivation is not None
        with pytest.raises(InfeasibleBudgetError) as refused:
            derivation.choose()
        site.keeper.infeasible(derivation, refused.value)
        for limit_bytes in (97, 99, 98):
            site.tell(limits=memory(limit_bytes))
            assert site.keeper.next_derivation() is None
        site.tell(limits=memory(100))
        manifest = site.derive()

    assert manifest is not None
    assert manifest.costs["memory_bytes"] == 100


def test_an_older_sub_model_tells_how_fast_a_device_is(tmp_path: Path) -> None:
    """A device that went back to one by itself is measured by that, not left unmeasured."""
    with open_site(tmp_path) as site:
        site.tell(limits=memory(200), latency_ms=2.0)
        assert site.derive() is not None  # 12 ms here
        site.tell(limits=memory(130), submodel=1, latency_ms=12.0)
        assert site.derive() is not None
        site.tell(limits=memory(130), submodel=1, latency_ms=24.0)

        assert site.keeper.fleet.members["cam-1"].scale == pytest.approx(2.0)


def test_limits_that_are_short_together_are_tried_again(tmp_path: Path) -> None:
    """Where each alone is enough, other limits may be enough together."""
    with open_site(tmp_path) as site:
        site.tell(limits=memory(120))
        derivation = site.keeper.next_derivation()
        assert derivation is not None
        together = InfeasibleBudgetError(
            {"memory_bytes": 150.0}, {"memory_bytes": 120.0},
            {"memory_bytes": {"memory_bytes": 100.0}},
        )  # fmt: skip
        site.keeper.infeasible(derivation, together)
        site.tell(limits=memory(120))
        assert site.keeper.next_derivation() is None
        site.tell(limits=memory(121))

        assert site.keeper.next_derivation() is not None
