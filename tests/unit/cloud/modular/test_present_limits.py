"""What a device's model may take, from what it declares and what its readings say."""

import math
import sys
from pathlib import Path

import msgspec
import pytest
from tests.unit.cloud.modular.keeping import open_site

from driftwell.edge.settings import ModelLimitSettings
from driftwell.messages.errors import InfeasibleBudgetError
from driftwell.messages.state import ModelLimits


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
