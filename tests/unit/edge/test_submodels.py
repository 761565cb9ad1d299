"""Which sub-models a device takes: those for it, of its bundle, in time, newer, and whole."""

import msgspec
import pytest
from tests import tiny

from driftwell.edge.submodels import (
    NO_ARRAYS,
    Owner,
    Part,
    chosen_of,
    is_repeat,
    resolve_submodel,
)
from driftwell.messages.errors import WireError
from driftwell.messages.submodel import ModuleRef, SubModelManifest

MODEL = "a" * 64
PIECE = "b" * 64
OWNER = Owner("default", "cam-1", MODEL, ((10, 10, 0), (20, 20)))


def manifest(**changed: object) -> SubModelManifest:
    """Of module 0 and the bypass of the first layer, and module 1 of the second."""
    fields: dict[str, object] = {
        "group": "default", "device": "cam-1", "model": MODEL, "version": 3,
        "created_ns": 0, "expires_ns": tiny.NOW_NS + 1,
        "layers": (
            (ref(0), ref(2, NO_ARRAYS)),
            (ref(1, version=4),),
        ),
        "costs": {}, "limits": {},
    }  # fmt: skip
    return SubModelManifest(**{**fields, **changed})  # type: ignore[arg-type]


def ref(module: int, piece: str = PIECE, version: int = 0) -> ModuleRef:
    return ModuleRef(module=module, version=version, piece=piece)


def test_a_sub_model_is_taken_apart_layer_by_layer() -> None:
    """Every module with its version and its piece, in the manifest's order."""
    parts = resolve_submodel(OWNER, 2, manifest(), now_ns=tiny.NOW_NS)

    assert parts == (Part(0, 0, 0, PIECE), Part(0, 2, 0, NO_ARRAYS), Part(1, 1, 4, PIECE))
    assert chosen_of(manifest()) == ((0, 2), (1,))


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"model": "c" * 64}, "wrong-model"),
        ({"group": "north"}, "wrong-cohort"),
        ({"device": "cam-2"}, "wrong-cohort"),
        ({"expires_ns": tiny.NOW_NS}, "expired"),
        ({"version": 2}, "older-version"),
        ({"layers": ((ref(0),),)}, "bad-array"),
        ({"layers": ((ref(0),), (ref(1),), (ref(1),))}, "bad-array"),
        ({"layers": ((ref(1), ref(0)), (ref(1),))}, "bad-array"),
        ({"layers": ((ref(0), ref(0)), (ref(1),))}, "bad-array"),
        ({"layers": ((ref(0),), (ref(2),))}, "bad-array"),
        ({"layers": ((ref(2),), (ref(1),))}, "bad-array"),
        ({"layers": ((ref(0, NO_ARRAYS),), (ref(1),))}, "bad-array"),
    ],
)  # fmt: skip
def test_what_is_not_for_this_device_is_refused(changed: dict[str, object], code: str) -> None:
    """Each under its code."""
    with pytest.raises(WireError) as caught:
        resolve_submodel(OWNER, 2, manifest(**changed), now_ns=tiny.NOW_NS)

    assert caught.value.code == code


def test_the_first_offence_counts() -> None:
    """A foreign, expired, older one of other modules is foreign."""
    worst = manifest(model="c" * 64, device="cam-2", expires_ns=0, version=1, layers=((ref(9),),))
    order = []
    for mended in ({}, {"model": MODEL}, {"device": "cam-1"}, {"expires_ns": 2**61},
                   {"version": 3}):  # fmt: skip
        worst = msgspec.structs.replace(worst, **mended)
        with pytest.raises(WireError) as caught:
            resolve_submodel(OWNER, 2, worst, now_ns=tiny.NOW_NS)
        order.append(caught.value.code.value)

    assert order == ["wrong-model", "wrong-cohort", "expired", "older-version", "bad-array"]


def test_a_retained_repeat_is_no_news() -> None:
    """The same version with the same modules; another one under its number is none."""
    known = manifest()

    assert is_repeat(known, manifest(expires_ns=2**61))
    assert not is_repeat(known, manifest(version=4))
    assert not is_repeat(known, manifest(layers=((ref(0),), (ref(1),))))
    assert not is_repeat(None, known)
