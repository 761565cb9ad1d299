"""The domain bank: finding, remembering, merging, giving way."""

import pytest

from driftwell.edge.bank import (
    MAX_KEY_BYTES,
    MAX_VALUE_BYTES,
    MEMORY_IMAGES,
    BankSettings,
    DomainBank,
)
from driftwell.edge.signature import Signature, make_signature
from driftwell.messages.errors import ArrayError, TooLargeError


def at(place: float, images: int = 64) -> Signature:
    """One channel of variance 1: two of these are (a - b)^2 / 2 apart."""
    return make_signature([place], [1.0], images=images)


def keys(bank: DomainBank) -> list[str]:
    return [entry.key for entry in bank.entries]


def test_the_nearest_domain_is_found() -> None:
    """The nearest entry under the threshold, with its distance and its very value."""
    bank = DomainBank().remember(at(0), "clear", b"c").remember(at(1), "fog", b"f")

    match = bank.nearest(at(0.9))

    assert match is not None
    assert (match.entry.key, match.entry.value) == ("fog", b"f")
    assert match.distance == pytest.approx(0.1**2 / 2)


def test_what_is_too_far_is_not_found() -> None:
    """An unknown domain, or an empty bank, gives None."""
    bank = DomainBank().remember(at(0), "clear", b"")

    assert bank.nearest(at(0.2)) is None
    assert DomainBank().nearest(at(0)) is None


def test_the_one_not_used_for_longest_gives_way() -> None:
    """Remembering and using count as use; looking does not."""
    bank = DomainBank(BankSettings(entries=3))
    for place in range(3):
        bank = bank.remember(at(place), f"d{place}", b"")
    assert bank.nearest(at(1)) is not None
    bank = bank.used("d0").remember(at(9), "d9", b"")

    assert keys(bank) == ["d2", "d0", "d9"]


def test_near_equal_domains_become_one() -> None:
    """Their images are pooled, and the newer key and value stand."""
    bank = DomainBank().remember(at(0, 100), "a", b"1").remember(at(0.04, 300), "b", b"2")

    (entry,) = bank.entries
    assert (entry.key, entry.value, entry.signature.images) == ("b", b"2", 400)
    assert entry.signature.mean.tolist() == pytest.approx([0.03])


def test_a_key_stands_once() -> None:
    """A key that is remembered elsewhere moves there."""
    bank = DomainBank().remember(at(0), "a", b"1").remember(at(5), "a", b"2")

    assert [(e.value, e.signature.mean[0]) for e in bank.entries] == [(b"2", 5.0)]


def test_a_signature_goes_on_following_its_domain() -> None:
    """However often a domain came, its signature weighs a bounded number of images."""
    bank = DomainBank()
    for _ in range(200):
        bank = bank.remember(at(0), "a", b"")
    assert bank.entries[0].signature.images == MEMORY_IMAGES

    bank = bank.remember(at(0.04, MEMORY_IMAGES), "a", b"")
    assert bank.entries[0].signature.mean.tolist() == pytest.approx([0.02])


def test_the_bank_is_bounded_in_number_and_size() -> None:
    """Entries beyond the bound give way; a key or value too large is refused."""
    bank = DomainBank()
    for place in range(50):
        bank = bank.remember(at(place), f"d{place}", b"x" * MAX_VALUE_BYTES)

    assert len(bank.entries) == 16
    with pytest.raises(TooLargeError):
        bank.remember(at(0), "k", b"x" * (MAX_VALUE_BYTES + 1))
    with pytest.raises(TooLargeError):
        bank.remember(at(0), "k" * (MAX_KEY_BYTES + 1), b"")


def test_no_method_changes_the_bank_it_is_called_on() -> None:
    """A bank that is held elsewhere stays as it was."""
    bank = DomainBank().remember(at(0), "a", b"").remember(at(5), "b", b"")
    bank.used("a")
    bank.remember(at(9), "c", b"")

    assert keys(bank) == ["a", "b"]
    assert keys(bank.used("unknown")) == ["a", "b"]


def test_another_model_is_refused() -> None:
    """Signatures of other channels are an error, and the settings must agree."""
    bank = DomainBank().remember(at(0), "a", b"")
    other = make_signature([0.0] * 2, [1.0] * 2, images=1)

    with pytest.raises(ArrayError):
        bank.nearest(other)
    with pytest.raises(ArrayError):
        bank.remember(other, "b", b"")
    with pytest.raises(ValueError, match="merge_distance"):
        BankSettings(merge_distance=1.0)
