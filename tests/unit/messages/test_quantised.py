"""int8 deltas: whole steps within a limit of bytes, and refusals of what does not add up."""

import struct
from typing import Final

import msgspec
import numpy as np
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from driftwell.messages import Delta, apply_delta, digest_arrays, encode_delta
from driftwell.messages.errors import ArrayError
from driftwell.messages.quantised import pack_symbols

State = dict[str, NDArray[np.float32]]

SOURCE: Final[State] = {
    "a": np.array([[1.0, 2.0]], np.float32),
    "b": np.array([3.0], np.float32),
    "empty": np.zeros((0, 2), np.float32),
}
SYMBOLS: Final = np.array([1, -127, 3], np.int8)
VALID: Final = Delta(
    encoding="int8", entries=(0, 1), values=pack_symbols(SYMBOLS), steps=struct.pack("<2f", 0.1, 2)
)


def drawn(seed: int, shape: tuple[int, ...], spread: float = 1.0) -> NDArray[np.float32]:
    """Normally distributed values."""
    return (np.random.default_rng(seed).standard_normal(shape) * spread).astype(np.float32)


def moved(state: State, spread: float = 0.1) -> State:
    """The state, each array a little elsewhere."""
    return {
        name: array + drawn(seed, array.shape, spread)
        for seed, (name, array) in enumerate(state.items(), start=100)
    }


WIDE: Final[State] = {
    "conv": drawn(1, (32, 16, 3, 3)),
    "dense": drawn(2, (10, 64)),
    "weight": drawn(3, (32,)),
}


def size_bytes(delta: Delta) -> int:
    """What the delta takes on the wire."""
    return len(msgspec.msgpack.encode(delta))


def error_of(delta: Delta, target: State, name: str) -> float:
    """The rms distance between one array's target and where the delta leads."""
    return float(np.sqrt(np.mean((apply_delta(WIDE, delta)[name] - target[name]) ** 2)))


def test_symbols_times_steps_are_added() -> None:
    """The result is source + float32(symbol) * step, each operation rounded to float32."""
    applied = apply_delta(SOURCE, VALID)

    step = np.float32(0.1)
    first = np.float32(1) + np.float32(1) * step, np.float32(2) + np.float32(-127) * step
    assert applied["a"].tobytes() == struct.pack("<2f", *first)
    assert applied["b"].tolist() == [9.0]


def test_the_limit_decides_how_fine_all_arrays_are() -> None:
    """The fewer bytes, the larger the error; each limit is kept, and most of it is used."""
    target = moved(WIDE)
    limits = [4000, 2000, 1000, 600]

    deltas = [encode_delta(WIDE, target, limit_bytes=limit) for limit in limits]

    sizes = [size_bytes(delta) for delta in deltas]
    assert all(0.9 * limit < size <= limit for size, limit in zip(sizes, limits, strict=True))
    errors = [error_of(delta, target, "conv") for delta in deltas]
    assert errors == sorted(errors)
    assert errors[0] < errors[-1]


def test_nothing_is_finer_than_it_needs_to_be() -> None:
    """A generous limit is not used up: steps are a twentieth of an array's rms difference."""
    target = moved(WIDE)

    delta = encode_delta(WIDE, target, limit_bytes=10**9)

    assert delta == encode_delta(WIDE, target, limit_bytes=size_bytes(delta))
    rms = [np.sqrt(np.mean((target[name] - WIDE[name]) ** 2)) for name in WIDE]
    steps = np.frombuffer(delta.steps, "<f4")
    np.testing.assert_allclose(steps, 0.05 * np.array(rms), rtol=1e-3)


def test_the_finest_step_can_be_chosen() -> None:
    """A coarser floor gives fewer bytes where the limit would allow more."""
    target = moved(WIDE)

    fine, coarse = (
        encode_delta(WIDE, target, limit_bytes=10**6, finest=finest) for finest in (0.05, 0.5)
    )

    assert size_bytes(coarse) < size_bytes(fine)
    with pytest.raises(ArrayError, match="finest step"):
        encode_delta(WIDE, target, limit_bytes=10**6, finest=0.0)


def test_normalisation_stays_fine_under_a_tight_limit() -> None:
    """Arrays of one dimension keep a twentieth of their rms difference while others vanish."""
    target = moved(WIDE)

    delta = encode_delta(WIDE, target, limit_bytes=150)

    assert 2 in delta.entries
    assert error_of(delta, target, "weight") < 0.05 * 0.1
    assert error_of(delta, target, "conv") > 0.05


def test_an_outlier_is_reached() -> None:
    """A step is large enough for 127 of them to come to the largest difference."""
    source = {"a": np.zeros((100, 100), np.float32)}
    target = {"a": drawn(1, (100, 100), 1e-3)}
    target["a"][3, 4] = 5.0

    delta = encode_delta(source, target, limit_bytes=10_000)

    assert apply_delta(source, delta)["a"][3, 4] == pytest.approx(5.0, rel=1e-6)


@pytest.mark.parametrize("least", [0.0, 1e-12, 1e-4])
def test_a_variance_stays_positive(least: float) -> None:
    """Where the target is nowhere negative the result is not, and 0 only where the target is."""
    source = {"running_var": np.linspace(0.5, 2, 64, dtype=np.float32)}
    target = {"running_var": np.linspace(least, 0.1, 64, dtype=np.float32)}

    result = apply_delta(source, encode_delta(source, target, limit_bytes=1000))["running_var"]

    assert (result >= 0).all()
    assert (result[target["running_var"] > 0] > 0).all()
    assert np.abs(result - target["running_var"]).max() < 0.05 * 2


def test_no_difference_is_an_empty_int8_delta() -> None:
    """Where nothing moved there are no entries, no steps and no bytes."""
    delta = encode_delta(SOURCE, SOURCE, limit_bytes=100)

    assert delta == Delta(encoding="int8", entries=(), values=b"")
    assert digest_arrays(apply_delta(SOURCE, delta)) == digest_arrays(SOURCE)


@pytest.mark.parametrize("limit", [-1, 0, 60])
def test_a_limit_that_cannot_be_kept_is_said(limit: int) -> None:
    """If normalisation alone is over the limit there is no delta, and the sizes are told."""
    with pytest.raises(ArrayError, match=f"over the limit of {limit} bytes") as caught:
        encode_delta(WIDE, moved(WIDE), limit_bytes=limit)

    assert caught.value.code == "too-large"


def test_a_sum_that_overflows_is_not_sent() -> None:
    """A delta whose own receiver would refuse it is refused by the encoder."""
    source = {"a": np.array([[3.35e38, 0.0]], np.float32)}
    target = {"a": np.array([[3.4e38, 1.01e37]], np.float32)}

    with pytest.raises(ArrayError) as caught:
        encode_delta(source, target, limit_bytes=1000, finest=1.0)

    assert caught.value.code == "not-finite"


def test_a_delta_without_steps_is_written_as_before() -> None:
    """Deltas of floats have no field `steps` on the wire."""
    fields = msgspec.msgpack.decode(msgspec.msgpack.encode(encode_delta(WIDE, moved(WIDE))))

    assert list(fields) == ["encoding", "entries", "values"]


def changed(**fields: object) -> Delta:
    """The valid delta with some fields replaced."""
    return msgspec.structs.replace(VALID, **fields)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_steps_of_a_wrong_length_are_refused(count: int) -> None:
    """There is one step for each entry."""
    with pytest.raises(ArrayError, match="takes 8 bytes of steps"):
        apply_delta(SOURCE, changed(steps=struct.pack("<f", 1) * count))


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (0.0, "bad-array"),
        (-0.0, "bad-array"),
        (-1.0, "bad-array"),
        (np.nan, "not-finite"),
        (np.inf, "not-finite"),
        (-np.inf, "not-finite"),
    ],
)
def test_steps_that_are_not_above_zero_are_refused(step: float, code: str) -> None:
    """A step is a finite number above 0."""
    with pytest.raises(ArrayError) as caught:
        apply_delta(SOURCE, changed(steps=struct.pack("<2f", 1, step)))

    assert caught.value.code == code


def test_a_product_that_overflows_is_refused() -> None:
    """A symbol times its step beyond float32 is refused, without a warning."""
    with pytest.raises(ArrayError) as caught:
        apply_delta(SOURCE, changed(steps=struct.pack("<2f", 3e38, 1)))

    assert caught.value.code == "not-finite"


@pytest.mark.parametrize("size", [0, 2, 4, 50_000_000])
def test_symbols_of_a_wrong_number_are_refused(size: int) -> None:
    """A frame of too few symbols or, a bomb, far too many is not even started on."""
    frame = zstandard.ZstdCompressor().compress(b"\0" * size)

    with pytest.raises(ArrayError, match=f"hold {size} bytes, their shape takes 3"):
        apply_delta(SOURCE, changed(values=frame))


@pytest.mark.parametrize("tail", [b"\0", VALID.values])
def test_bytes_after_the_symbols_are_refused(tail: bytes) -> None:
    """Neither rubbish nor a second frame may follow."""
    with pytest.raises(ArrayError, match="do not decompress"):
        apply_delta(SOURCE, changed(values=VALID.values + tail))


def test_symbols_cut_short_are_refused() -> None:
    """Every proper prefix of the frame is refused."""
    for length in range(len(VALID.values)):
        with pytest.raises(ArrayError):
            apply_delta(SOURCE, changed(values=VALID.values[:length]))


@pytest.mark.parametrize("entries", [(), (2,)])
def test_no_symbols_are_no_bytes(entries: tuple[int, ...]) -> None:
    """Where the entries hold no values there is no frame, not even an empty one."""
    steps = struct.pack("<f", 1) * len(entries)
    nothing = changed(entries=entries, values=b"", steps=steps)
    assert digest_arrays(apply_delta(SOURCE, nothing)) == digest_arrays(SOURCE)

    with pytest.raises(ArrayError, match="takes 0 bytes"):
        apply_delta(SOURCE, changed(entries=entries, steps=steps))


@pytest.mark.parametrize("encoding", ["float16", "float32"])
def test_steps_belong_to_int8_alone(encoding: str) -> None:
    """A delta of floats that has steps is refused."""
    with pytest.raises(ArrayError, match="takes no steps"):
        apply_delta(SOURCE, changed(encoding=encoding))


@given(st.binary(max_size=20), st.binary(max_size=12), st.lists(st.integers(-1, 4), max_size=4))
def test_arbitrary_int8_deltas_never_escape(
    values: bytes, steps: bytes, entries: list[int]
) -> None:
    """Whatever entries, steps and bytes say, a state comes out, or an ArrayError."""
    delta = Delta(encoding="int8", entries=tuple(entries), values=values, steps=steps)
    try:
        applied = apply_delta(SOURCE, delta)
    except ArrayError:
        return
    assert all(np.isfinite(array).all() for array in applied.values())
