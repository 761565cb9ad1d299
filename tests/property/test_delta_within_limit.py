"""Deltas within a limit of bytes, for any arrays, and for a state that drifts for long."""

from typing import Final

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.array_strategies import adaptations
from tests.golden.fixed_messages import HEAD, KEY, MANIFEST

from driftwell.messages import Delta, apply_delta, decode, digest_arrays, encode, encode_delta
from driftwell.messages.errors import ArrayError, RefusalCode
from driftwell.messages.head import Head
from driftwell.messages.signing import sign_manifest, verify_head

State = dict[str, NDArray[np.float32]]
VERSIONS: Final = 1000
FLOAT32_BYTES: Final = 4


def received(delta: Delta) -> Delta:
    """The delta after it travelled in a signed head."""
    manifest, signature = sign_manifest(msgspec.structs.replace(MANIFEST, delta=delta), KEY)
    head = msgspec.structs.replace(HEAD, manifest=manifest, signature=signature)
    message = decode(encode(head, limit_bytes=10**6), limit_bytes=10**6)
    assert isinstance(message, Head)
    return verify_head(message, HEAD.key).delta


def within(pair: tuple[State, State], limit_bytes: int) -> Delta | RefusalCode:
    """The delta within a limit, or why there is none."""
    try:
        return encode_delta(*pair, limit_bytes=limit_bytes)
    except ArrayError as error:
        return error.code


@given(adaptations(), st.integers(0, 700))
def test_any_delta_keeps_its_limit_or_is_refused(pair: tuple[State, State], limit: int) -> None:
    """A delta is within the limit on the wire; where none is, the encoder says so."""
    delta = within(pair, limit)

    if isinstance(delta, RefusalCode):
        assert delta == "too-large"
        assert len(msgspec.msgpack.encode(encode_delta(*pair, limit_bytes=10**6))) > limit
    else:
        assert len(msgspec.msgpack.encode(delta)) <= limit


@given(adaptations(), st.integers(100, 1000))
def test_both_ends_come_to_the_same_bits(pair: tuple[State, State], limit: int) -> None:
    """What the receiver computes is what the sender digested, and the source stays."""
    source, _ = pair
    before = digest_arrays(source)
    delta, again = within(pair, limit), within(pair, limit)
    assert delta == again
    if isinstance(delta, RefusalCode):
        return

    sent, taken = apply_delta(source, delta), apply_delta(source, received(delta))

    assert digest_arrays(sent) == digest_arrays(taken)
    assert before == digest_arrays(source)


@given(adaptations(), st.floats(0.01, 4))
def test_no_value_is_further_off_than_its_step(pair: tuple[State, State], finest: float) -> None:
    """The error is at most half a step; at most one where a positive target is kept positive."""
    source, target = pair
    delta = encode_delta(source, target, limit_bytes=10**6, finest=finest)
    applied = apply_delta(source, delta)

    steps = dict(zip(delta.entries, np.frombuffer(delta.steps, "<f4").tolist(), strict=True))
    for position, (name, array) in enumerate(source.items()):
        after = target[name]
        if position not in steps:
            assert array.tobytes() == applied[name].tobytes()
            continue
        kept = after.ndim <= 1 and bool((after >= 0).all())
        error = np.abs(applied[name].astype(np.float64) - after)
        # Difference, product and sum are each rounded to float32, at the scale of their terms.
        rounding = 2.0**-22 * (np.abs(array).astype(np.float64) + np.abs(after)) + 2.0**-148
        assert (error <= steps[position] * (1.0 if kept else 0.5) * (1 + 2.0**-15) + rounding).all()


@given(adaptations())
def test_what_is_nowhere_negative_stays_so(pair: tuple[State, State]) -> None:
    """A small array whose target has no negative value leads to none, and to no false zero."""
    source, target = pair
    target = {name: np.abs(array) if array.ndim <= 1 else array for name, array in target.items()}
    delta = encode_delta(source, target, limit_bytes=10**6)
    applied = apply_delta(source, delta)

    for position, name in enumerate(source):
        if position in delta.entries and target[name].ndim <= 1:
            assert (applied[name] >= 0).all()


def resnet20_shapes() -> dict[str, tuple[int, ...]]:
    """The adaptable arrays of a CIFAR ResNet-20, 271,098 values."""
    blocks = [(16, 16)] * 3 + [(16, 32)] + [(32, 32)] * 2 + [(32, 64)] + [(64, 64)] * 2
    convolutions = [(16, 3)]
    for before, after in blocks:
        convolutions += [(after, before), (after, after)]
    shapes: dict[str, tuple[int, ...]] = {}
    for layer, (after, before) in enumerate(convolutions):
        shapes[f"{layer}.conv"] = (after, before, 3, 3)
        for name in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{layer}.{name}"] = (after,)
    return shapes | {"fc.weight": (10, 64), "fc.bias": (10,)}


class Walk:
    """A state on a random walk; variances walk in ratio and stay positive."""

    def __init__(self, seed: int) -> None:
        self.draw = np.random.default_rng(seed)
        shapes = resnet20_shapes()
        self.size = sum(int(np.prod(shape)) for shape in shapes.values())
        self.noise = self.draw.standard_normal(2 * self.size, np.float32)
        """Each step reads its noise from somewhere else in here: drawing it anew takes longer."""
        self.state = {
            name: np.float32(0.1) + np.abs(self.draw.standard_normal(shape, np.float32))
            for name, shape in shapes.items()
        }

    def step(self) -> State:
        """The next state, in memory of its own."""
        start = int(self.draw.integers(self.size))
        for name, array in self.state.items():
            noise = self.noise[start : start + array.size].reshape(array.shape)
            start += array.size
            by_ratio = name.endswith("running_var")
            moved = array * np.exp(noise / 100) if by_ratio else array + noise / 500
            self.state[name] = moved.astype(np.float32)
        return dict(self.state)


def test_a_thousand_versions_of_a_drifting_state_agree() -> None:
    """Both ends hold the same bits after each of 1,000 versions, at under a quarter of float32."""
    walk = Walk(seed=7)
    source = dict(walk.state)
    total_bytes = 0
    for version in range(VERSIONS):
        # A tight limit costs a search of some 50 ms, so only some versions have one.
        limit_bytes = 32_000 if version % 50 == 0 else 230_000

        delta = encode_delta(source, walk.step(), limit_bytes=limit_bytes)

        wire = msgspec.msgpack.encode(delta)
        taken = apply_delta(source, msgspec.msgpack.decode(wire, type=Delta))
        assert len(wire) <= limit_bytes
        assert digest_arrays(taken) == digest_arrays(apply_delta(source, delta))
        total_bytes += len(wire)
    ratio = total_bytes / VERSIONS / (FLOAT32_BYTES * walk.size)
    assert ratio <= 0.25, f"{ratio:.3f} of float32"
