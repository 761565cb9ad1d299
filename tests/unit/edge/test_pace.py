"""How fast a stream goes."""

import pytest

from driftwell.edge.pace import AsFastAsPossible, AtRate, Lockstep, parse_pace
from driftwell.messages.errors import SettingsError


@pytest.mark.parametrize(
    ("spec", "kind"),
    [
        ("max", AsFastAsPossible),
        ("rate:12.5", AtRate),
        ("rate:1e3", AtRate),
        ("lockstep", Lockstep),
    ],
)
def test_the_three_paces(spec: str, kind: type) -> None:
    """Each pace has its word."""
    assert type(parse_pace(spec)) is kind


@pytest.mark.parametrize(
    "spec",
    ["", "fast", "rate", "rate:", "rate:0", "rate:-1", "rate:nan", "rate:inf", "rate:x", "max:",
     "max:3", "lockstep:1"],
)  # fmt: skip
def test_anything_else_is_refused(spec: str) -> None:
    """The error repeats what was given."""
    with pytest.raises(SettingsError, match="rate:N"):
        parse_pace(spec)
