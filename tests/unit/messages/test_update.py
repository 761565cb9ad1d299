"""Module updates: arrays with the weight they have in the aggregation."""

import math

import numpy as np
import pytest
from tests.golden.fixed_messages import UPDATE
from tests.unit.messages.tampering import payload_with, payload_without

from driftwell.messages import ModuleUpdate, decode, encode
from driftwell.messages.arrays import unpack_arrays
from driftwell.messages.errors import MalformedError


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("module", "0"),
        ("base_version", -1),
        ("samples", -1),
        ("importance", -0.1),
        ("importance", 1.1),
        ("importance", math.nan),
        ("arrays", None),
        ("arrays", {}),
    ],
)
def test_an_update_out_of_bounds_is_malformed(field: str, value: object) -> None:
    """An update that would poison an aggregation by its numbers is refused."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_with(UPDATE, field, value))


@pytest.mark.parametrize("field", ["module", "base_version", "samples", "importance"])
def test_an_update_says_what_it_is_of(field: str) -> None:
    """An update without its module, version, samples or importance is refused."""
    with pytest.raises(MalformedError, match=field):
        decode(payload_without(UPDATE, field))


def test_the_arrays_of_an_update_come_back() -> None:
    """Floats, halves, a scalar and booleans travel in one update."""
    received = decode(encode(UPDATE))

    assert isinstance(received, ModuleUpdate)
    arrays = unpack_arrays(received.arrays)
    np.testing.assert_array_equal(
        np.array([[1.5, -2.0], [0.0, 3.0e-5]], np.float32), arrays["weight"]
    )
    np.testing.assert_array_equal(np.array([0.5, -0.5], np.float16), arrays["bias"])
    assert arrays["steps"].shape == ()
    assert arrays["mask"].tolist() == [True, False]
