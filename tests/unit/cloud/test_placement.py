"""Which domain a device's samples go to."""

from typing import Any

import msgspec
import pytest
from tests import tiny

from driftwell.cloud.placement import Placement, better_known, find_domain
from driftwell.cloud.settings import DomainSettings
from driftwell.messages.errors import ArrayError
from driftwell.messages.samples import SampleBatch
from driftwell.messages.signature import (
    PackedSignature,
    Signature,
    make_signature,
    pack_signature,
)

SETTINGS = DomainSettings(limit=3, match_distance=0.02)
KNOWN = {"home": make_signature([0.0], [1.0], images=64)}


def at(place: float, images: int = 64) -> Signature:
    """One channel of variance 1: two of these are (a - b)^2 / 2 apart."""
    return make_signature([place], [1.0], images=images)


def batch(place: float | None, *, device: str = "cam-1", **fields: Any) -> SampleBatch:
    made = tiny.make_batch(tiny.make_images(1), device=device, model="0" * 64)
    signature = msgspec.UNSET if place is None else pack_signature(at(place))
    return msgspec.structs.replace(made, cohort="home", signature=signature, **fields)


def test_without_a_signature_it_is_the_cohort_that_is_named() -> None:
    """And nothing is remembered of the device."""
    placement = Placement(SETTINGS)

    assert placement.place(batch(None), KNOWN) == "home"
    assert placement.told("cam-1", tiny.SESSION) is None


def test_the_first_domain_goes_by_the_cohorts_name() -> None:
    """Whatever it looks like."""
    assert find_domain("home", at(5.0), {}, SETTINGS) == "home"


def test_what_looks_alike_is_one_domain_and_what_does_not_is_another() -> None:
    """0.15 is 0.011 apart, 0.3 is 0.045; two signatures of 64 images may be 0.036."""
    placement = Placement(SETTINGS)

    assert placement.place(batch(0.15), KNOWN) == "home"
    assert placement.place(batch(0.3, device="cam-2"), KNOWN) == "home/1"
    known = {**KNOWN, "home/1": at(0.3)}
    assert placement.place(batch(0.2, device="cam-3"), known) == "home/1"


def test_few_images_may_be_further_apart_by_chance() -> None:
    """0.25 is 0.031 apart: one domain for 64 images each, two for a thousand."""
    assert find_domain("home", at(0.25), {"home": at(0.0)}, SETTINGS) == "home"
    many = at(0.25, images=1000)
    assert find_domain("home", many, {"home": at(0.0, images=1000)}, SETTINGS) == "home/1"


def test_where_there_is_no_room_the_nearest_takes_it() -> None:
    """The limit counts the first domain, too."""
    known = {"home": at(0.0), "home/1": at(1.0), "home/2": at(2.0)}

    assert find_domain("home", at(9.0), known, SETTINGS) == "home/2"


def test_a_stay_in_one_domain_ends_in_one_place() -> None:
    """Whatever its later images look like; a drift or a new session asks again."""
    placement = Placement(SETTINGS)
    assert placement.place(batch(0.0), KNOWN) == "home"

    assert placement.place(batch(3.0), KNOWN) == "home"
    assert placement.place(batch(3.0, drifts=1), KNOWN) == "home/1"
    place = placement.told("cam-1", tiny.SESSION)
    assert place is not None
    assert (place.drifts, place.domain) == (1, 1)
    assert placement.told("cam-1", "f" * 16) is None
    assert placement.place(batch(0.0, session="f" * 16, drifts=1), KNOWN) == "home"


def test_a_device_that_knows_its_domain_is_believed() -> None:
    """Unless the cloud has lost it: then its looks decide."""
    known = {**KNOWN, "home/1": at(0.4)}

    assert Placement(SETTINGS).place(batch(0.05, domain=1), known) == "home/1"
    assert Placement(SETTINGS).place(batch(0.35, domain=0), known) == "home"
    assert Placement(SETTINGS).place(batch(0.0, domain=2), known) == "home"


def test_a_number_of_another_clouds_domain_is_not_believed() -> None:
    """What was counted before the cloud lost its state does not look like that number."""
    known = {**KNOWN, "home/1": at(3.0)}

    assert Placement(SETTINGS).place(batch(0.0, domain=1), known) == "home"


def test_few_images_open_no_domain_and_are_not_held_to() -> None:
    """They go to the nearest; with 64 the device is placed. They are nobody's signature."""
    placement = Placement(SETTINGS)
    few = msgspec.structs.replace(batch(3.0), signature=pack_signature(at(3.0, images=63)))

    assert placement.place(few, KNOWN) == "home"
    assert placement.told("cam-1", tiny.SESSION) is None
    assert better_known(None, at(3.0, images=63)) is None
    assert placement.place(batch(3.0), KNOWN) == "home/1"


def test_where_the_cloud_has_no_room_the_nearest_takes_it() -> None:
    """A refusal would lose the samples; without any domain they go to the cohort's first."""
    assert Placement(SETTINGS).place(batch(9.0), KNOWN, has_room=False) == "home"
    assert Placement(SETTINGS).place(batch(9.0), {}, has_room=False) == "home"


def test_another_networks_signature_is_near_to_nothing() -> None:
    """And does not replace the cohort's: one device cannot spoil it for the others."""
    other = make_signature([0.0, 0.0], [1.0, 1.0], images=9999)
    alien = msgspec.structs.replace(batch(0.0), signature=pack_signature(other))

    assert Placement(SETTINGS).place(alien, KNOWN) == "home/1"
    assert better_known(KNOWN["home"], other) is KNOWN["home"]


def test_a_signature_that_is_none_is_refused() -> None:
    """The place of before stands."""
    placement = Placement(SETTINGS)
    placement.place(batch(0.0), KNOWN)
    damaged = PackedSignature(mean=b"12345", variance=b"12345", images=1)

    wrong = msgspec.structs.replace(batch(0.0, drifts=1), signature=damaged)
    with pytest.raises(ArrayError):
        placement.place(wrong, KNOWN)
    place = placement.told("cam-1", tiny.SESSION)
    assert place is not None
    assert place.drifts == 0


def test_more_images_make_a_better_signature() -> None:
    """Up to the number from which the newest one counts."""
    few, many = at(1.0, images=64), at(2.0, images=5000)

    assert better_known(None, few) is few
    assert better_known(many, few) is many
    assert better_known(few, many) is many
    newest = at(3.0, images=4096)
    assert better_known(many, newest) is newest
