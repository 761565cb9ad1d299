"""Names: the one alphabet that is safe in topics, paths and metric labels."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import names

from driftwell.messages.errors import SettingsError
from driftwell.messages.names import EVERYONE, is_name, require_name

BAD = ["", "-a", "_", "A", "a_b", "a/b", "a+", "#", "a.b", "a b", "a\n", "a\0", "ä", "a" * 49]


@given(names)
def test_valid_names_pass_through(name: str) -> None:
    """A name of 1 to 48 allowed characters is returned as it is."""
    assert is_name(name)
    assert name == require_name(name, what="device")


@pytest.mark.parametrize("text", BAD)
def test_anything_else_is_no_name(text: str) -> None:
    """What is empty, too long, or unsafe in a topic or path is refused, and told by its use."""
    assert not is_name(text)
    with pytest.raises(SettingsError, match=r"device .* is not a valid name"):
        require_name(text, what="device")


@given(st.text(max_size=60))
def test_names_consist_of_the_alphabet_alone(text: str) -> None:
    """A text is a name exactly if length, alphabet and first character are right."""
    allowed = string.ascii_lowercase + string.digits + "-"
    expected = 1 <= len(text) <= 48 and set(text) <= set(allowed) and not text.startswith("-")

    assert expected == is_name(text)


def test_everyone_is_not_a_name() -> None:
    """No device can be called what stands for all devices."""
    assert not is_name(EVERYONE)
