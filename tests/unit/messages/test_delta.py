"""Deltas: both ends come to the same bits, from any earlier state, however often."""

import struct

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.array_strategies import adaptations

from driftwell.messages import Delta, apply_delta, digest_arrays, encode_delta
from driftwell.messages.delta import FLOAT16_MAX, MAX_ENTRIES
from driftwell.messages.envelope import MAX_COUNT
from driftwell.messages.errors import ArrayError

State = dict[str, NDArray[np.float32]]
Adaptation = tuple[State, State]


def state(**values: list[float]) -> State:
    """A state of one-dimensional arrays."""
    return {name: np.array(value, np.float32) for name, value in values.items()}


SOURCE = state(a=[1.0, 2.0], b=[3.0], c=[-0.0, 5.0])


def nearest(form: str, value: float) -> float:
    """The value rounded as the struct module rounds: an implementation besides numpy's."""
    return float(struct.unpack(form, struct.pack(form, value))[0])


def close_targets() -> st.SearchStrategy[Adaptation]:
    """Adaptations whose differences all fit float16."""
    return adaptations().filter(lambda pair: encode_delta(*pair).encoding == "float16")


@given(close_targets())
def test_applying_gives_the_source_plus_the_rounded_difference(pair: Adaptation) -> None:
    """Sent values become float32(source + float16(float32(target - source))), bit for bit."""
    source, target = pair

    delta = encode_delta(source, target)
    applied = apply_delta(source, delta)

    for position, (name, array) in enumerate(source.items()):
        starts, ends = array.ravel().tolist(), target[name].ravel().tolist()
        rounded = [
            nearest("<e", nearest("<f", end - start)) or 0.0
            for start, end in zip(starts, ends, strict=True)
        ]
        assert (position in delta.entries) == any(rounded)
        if any(rounded):
            starts = [start + by for start, by in zip(starts, rounded, strict=True)]
        assert struct.pack(f"<{array.size}f", *starts) == applied[name].tobytes()


@given(adaptations())
def test_encoding_what_was_applied_leads_to_the_same_bits(pair: Adaptation) -> None:
    """A published state can be encoded anew at any time: the digest does not change."""
    source, target = pair
    applied = apply_delta(source, encode_delta(source, target))

    again = apply_delta(source, encode_delta(source, applied))

    assert digest_arrays(applied) == digest_arrays(again)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (state(a=[-0.0, 0.0]), state(a=[-0.0, 1e-30])),
        (state(a=[-0.0, 0.0]), state(a=[-1e-30, 1.0])),
        (state(a=[-0.0, -0.0]), state(a=[0.0, -1e-30])),
        (state(a=[-0.0, 1000.0]), state(a=[0.0, 1000.0001])),
    ],
)
def test_negative_zero_in_the_source_does_not_make_bits_differ(
    source: State, target: State
) -> None:
    """Differences that vanish when rounded are no differences, whatever their sign."""
    applied = apply_delta(source, encode_delta(source, target))

    again = apply_delta(source, encode_delta(source, applied))

    assert digest_arrays(applied) == digest_arrays(again)


@given(adaptations())
def test_what_did_not_change_keeps_its_bits_and_costs_nothing(pair: Adaptation) -> None:
    """Arrays without a difference are left out of the delta, and stay as in the source."""
    source, target = pair

    delta = encode_delta(source, target)
    applied = apply_delta(source, delta)

    names = list(source)
    sent = {names[position] for position in delta.entries}
    width = 2 if delta.encoding == "float16" else 4
    assert width * sum(source[name].size for name in sent) == len(delta.values)
    for name in source.keys() - sent:
        assert source[name].tobytes() == applied[name].tobytes()
    assert not any(np.array_equal(source[name], target[name]) for name in sent)


@given(adaptations())
def test_the_source_is_left_as_it_is(pair: Adaptation) -> None:
    """Neither encoding nor applying writes to the source, and the result shares no memory."""
    source, target = pair
    before = digest_arrays(source)

    applied = apply_delta(source, encode_delta(source, target))
    for array in applied.values():
        array[...] = 7

    assert before == digest_arrays(source)


@given(adaptations())
def test_the_result_has_the_arrays_of_the_source(pair: Adaptation) -> None:
    """Names, their order, shapes and the dtype float32 are those of the source."""
    source, target = pair

    applied = apply_delta(source, encode_delta(source, target))

    assert list(source) == list(applied)
    for name, array in source.items():
        assert array.shape == applied[name].shape
        assert applied[name].dtype == np.float32


def test_no_difference_is_an_empty_delta() -> None:
    """The delta from a state to itself has no entries and no bytes."""
    assert Delta(encoding="float16", entries=(), values=b"") == encode_delta(SOURCE, SOURCE)


def test_the_bytes_are_as_the_specification_says() -> None:
    """Changed arrays by position, their differences end to end as little-endian float16."""
    target = state(a=[1.5, 2.0], b=[3.0], c=[0.0, 4.0])

    delta = encode_delta(SOURCE, target)

    assert delta == Delta(
        encoding="float16", entries=(0, 2), values=struct.pack("<4e", 0.5, 0, 0, -1)
    )


@pytest.mark.parametrize(
    ("difference", "encoding"),
    [
        (FLOAT16_MAX, "float16"),
        (65_504.004, "float32"),
        (-FLOAT16_MAX, "float16"),
        (1e30, "float32"),
    ],
)
def test_what_does_not_fit_float16_travels_as_float32(difference: float, encoding: str) -> None:
    """Beyond 65504 all values of the delta are float32, and those far away are exact."""
    source = state(a=[0.0], b=[1.0])
    target = state(a=[difference], b=[1.1])

    delta = encode_delta(source, target)

    assert delta.encoding == encoding
    assert apply_delta(source, delta)["a"] == np.float32(difference)
    if encoding == "float32":
        expected = np.float32(1.1) - np.float32(1.0)
        assert delta.values == struct.pack("<2f", np.float32(difference), expected)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_target_that_is_not_finite_is_refused(value: float) -> None:
    """NaN and infinity are refused by the encoder, under their own code."""
    with pytest.raises(ArrayError, match="'b'") as caught:
        encode_delta(SOURCE, SOURCE | state(b=[value]))

    assert caught.value.code == "not-finite"


def test_a_difference_beyond_float32_is_refused() -> None:
    """Finite ends too far apart for float32 are refused, without a warning."""
    with pytest.raises(ArrayError) as caught:
        encode_delta(state(a=[3e38]), state(a=[-3e38]))

    assert caught.value.code == "not-finite"


@pytest.mark.parametrize(
    "target",
    [
        state(a=[1.0, 2.0], b=[3.0]),
        state(b=[3.0], a=[1.0, 2.0], c=[0.0, 5.0]),
        state(a=[1.0, 2.0], b=[3.0], d=[0.0, 5.0]),
        state(a=[1.0, 2.0], b=[3.0, 3.0], c=[0.0, 5.0]),
        SOURCE | {"b": np.array([[3.0]], np.float32)},
    ],
)
def test_a_target_of_other_arrays_is_refused(target: State) -> None:
    """Names, order and shapes of source and target must be the same."""
    with pytest.raises(ArrayError) as caught:
        encode_delta(SOURCE, target)

    assert caught.value.code == "bad-array"


@pytest.mark.parametrize(
    "entries", [(3,), (0, 3), (1, 0), (0, 0), (-1,), (-1, 0), (0, 1, 2, 3), (MAX_COUNT,)]
)
def test_entries_that_are_not_ascending_positions_are_refused(entries: tuple[int, ...]) -> None:
    """A position that is absent, negative, repeated or out of order is refused."""
    with pytest.raises(ArrayError, match="ascending positions") as caught:
        apply_delta(SOURCE, Delta(encoding="float16", entries=entries, values=b"\0" * 10))

    assert caught.value.code == "bad-array"


@pytest.mark.parametrize("size", [0, 1, 5, 7, 8, 12])
def test_values_of_a_wrong_length_are_refused(size: int) -> None:
    """The values must be as many bytes as the entries demand."""
    with pytest.raises(ArrayError, match="takes 6 bytes") as caught:
        apply_delta(SOURCE, Delta(encoding="float16", entries=(0, 1), values=b"\0" * size))

    assert caught.value.code == "bad-array"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("encoding", ["float16", "float32"])
def test_values_that_are_not_finite_are_refused(encoding: str, value: float) -> None:
    """NaN and infinity never get into a model."""
    values = np.array([value], np.dtype(encoding)).tobytes()
    delta = msgspec.convert({"encoding": encoding, "entries": [1], "values": values}, Delta)

    with pytest.raises(ArrayError, match="values of the delta") as caught:
        apply_delta(SOURCE, delta)

    assert caught.value.code == "not-finite"


def test_a_sum_that_is_not_finite_is_refused() -> None:
    """A finite difference that leads to infinity is refused, without a warning."""
    delta = Delta(encoding="float32", entries=(0,), values=struct.pack("<f", 3e38))

    with pytest.raises(ArrayError, match="'a'") as caught:
        apply_delta(state(a=[3e38]), delta)

    assert caught.value.code == "not-finite"


@given(st.binary(max_size=12), st.lists(st.integers(-1, 4), max_size=4))
def test_arbitrary_deltas_never_escape(values: bytes, entries: list[int]) -> None:
    """Whatever entries and bytes say, a state comes out, or an ArrayError."""
    delta = Delta(encoding="float16", entries=tuple(entries), values=values)
    try:
        applied = apply_delta(SOURCE, delta)
    except ArrayError:
        return
    assert all(np.isfinite(array).all() for array in applied.values())


@pytest.mark.parametrize(
    "fields",
    [
        {"encoding": "int4"},
        {"entries": [-1]},
        {"entries": [0.5]},
        {"entries": list(range(MAX_ENTRIES + 1))},
        {"values": "text"},
    ],
)
def test_a_delta_out_of_bounds_is_no_delta(fields: dict[str, object]) -> None:
    """Another encoding, a negative position or too many entries is refused when decoded."""
    valid: dict[str, object] = {"encoding": "float16", "entries": [0], "values": b""}
    msgspec.msgpack.decode(msgspec.msgpack.encode(valid), type=Delta)

    with pytest.raises(msgspec.ValidationError):
        msgspec.msgpack.decode(msgspec.msgpack.encode(valid | fields), type=Delta)
