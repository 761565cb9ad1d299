"""Names: the one alphabet that is safe in topics, paths and metric labels."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.strategies import cohort_names, domains, names

from driftwell.messages.errors import SettingsError
from driftwell.messages.names import (
    EVERYONE,
    MAX_DOMAIN,
    domain_name,
    is_cohort_name,
    is_name,
    require_cohort_name,
    require_name,
    split_domain,
)

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


@given(names, domains)
def test_a_domain_is_read_back_from_its_name(cohort: str, domain: int) -> None:
    """Cohort and number make a name, and come out of it again."""
    name = domain_name(cohort, domain)

    assert is_cohort_name(name)
    assert name == require_cohort_name(name, what="cohort")
    assert split_domain(name) == (cohort, domain)


@given(names)
def test_the_first_domain_goes_by_the_cohorts_name(cohort: str) -> None:
    """Who knows of no domains and names a cohort means its domain 0."""
    assert domain_name(cohort, 0) == cohort


@given(cohort_names, cohort_names)
def test_a_domain_has_one_name(one: str, other: str) -> None:
    """Names are equal exactly where cohort and number are."""
    assert (one == other) == (split_domain(one) == split_domain(other))


@pytest.mark.parametrize("text", [text for text in BAD if text != "a/b"])
def test_a_bad_name_has_no_domains(text: str) -> None:
    """What is no name is none of a cohort either, with a number or without."""
    for name in (text, f"{text}/1"):
        assert not is_cohort_name(name)
        with pytest.raises(SettingsError, match=r"cohort .* is not a valid name"):
            require_cohort_name(name, what="cohort")


@pytest.mark.parametrize(
    "number",
    ["", "0", "01", "00", "-1", "+1", " 1", "1 ", "1\n", "1.0", "1_0", "1e1", "b", "1/2", "\u0661",
     str(MAX_DOMAIN + 1)],
)  # fmt: skip
def test_a_number_has_one_spelling(number: str) -> None:
    """Only 1 to MAX_DOMAIN, in plain digits, follows the name of a cohort."""
    assert not is_cohort_name(f"yard/{number}")
    with pytest.raises(SettingsError, match=r"'yard/.* is not a valid name of a domain"):
        require_cohort_name(f"yard/{number}", what="cohort")
