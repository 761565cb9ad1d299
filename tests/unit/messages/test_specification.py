"""The specification in `messages/README.md` says of the code what is true of it."""

from typing import Final

import msgspec
import numpy as np
import pytest
from tests.golden.fixed_messages import FIXED
from tests.unit.messages.specification import README, section, table
from tests.unit.messages.tampering import fields_of

from driftwell import messages
from driftwell.messages import (
    SCHEMA,
    Envelope,
    RefusalCode,
    ack,
    arrays,
    blob,
    codec,
    contact_sheet,
    delta,
    digest_arrays,
    digest_bytes,
    envelope,
    head,
    images,
    names,
    signature,
    state,
    submodel,
    telemetry,
    topics,
)
from driftwell.messages.samples import COLUMNS
from driftwell.messages.stream import LABEL, STREAM_COLUMNS

SECTIONS: Final[dict[str, type[msgspec.Struct]]] = {
    "### `ack`": messages.Ack,
    "#### `refused`": messages.Refused,
    "### `blob`": messages.Blob,
    "### `event`": messages.Event,
    "### `fetch`": messages.Fetch,
    "#### `want`": messages.Want,
    "### `head`": messages.Head,
    "### `samples`": messages.SampleBatch,
    "### `state`": messages.State,
    "#### `limits`": messages.Limits,
    "#### `model limits`": messages.ModelLimits,
    "### `stream`": messages.StreamBatch,
    "### `submodel`": messages.SubModel,
    "### `telemetry`": messages.Telemetry,
    "#### `resources`": messages.Resources,
    "#### `inference`": messages.Inference,
    "#### `link`": messages.Link,
    "#### `modular`": messages.Modular,
    "### `update`": messages.ModuleUpdate,
    "#### `array`": messages.NamedArray,
    "#### `images`": messages.PackedImages,
    "#### `delta`": messages.Delta,
    "#### `signature`": messages.PackedSignature,
    "#### `manifest`": messages.Manifest,
    "#### `provenance`": messages.Provenance,
    "#### `sub-model manifest`": messages.SubModelManifest,
    "#### `module ref`": messages.ModuleRef,
    "#### `content`": messages.Content,
}
WORDS: Final = {
    "UNSET": "absent",
    "None": "nil",
    "False": "false",
    "''": '""',
    "()": "empty",
    "b''": '""',
    repr(messages.ModelLimits()): "no limits",
}


def own_fields(struct: type[msgspec.Struct]) -> list[msgspec.structs.FieldInfo]:
    """The fields of a struct that are not the envelope's."""
    inherited = set(Envelope.__struct_fields__) if issubclass(struct, Envelope) else set()
    return [field for field in msgspec.structs.fields(struct) if field.name not in inherited]


def default_of(field: msgspec.structs.FieldInfo) -> str:
    """A field's default as the page words it."""
    if field.required:
        return "required"
    return WORDS.get(repr(field.default), repr(field.default))


@pytest.mark.parametrize("heading", SECTIONS)
def test_every_field_is_specified(heading: str) -> None:
    """Each table has the fields of its struct, in order, with their defaults."""
    specified = [(row["field"], row["default"]) for row in table(heading)]

    assert specified == [
        (field.encode_name, default_of(field)) for field in own_fields(SECTIONS[heading])
    ]


def test_every_struct_is_specified() -> None:
    """No struct that the package offers is left out of the page."""
    offered = {
        value
        for name in messages.__all__
        if isinstance(value := getattr(messages, name), type) and issubclass(value, msgspec.Struct)
    }

    assert offered - {Envelope} == set(SECTIONS.values())


@pytest.mark.parametrize("struct", SECTIONS.values())
def test_what_travels_cannot_be_altered(struct: type[msgspec.Struct]) -> None:
    """Every struct is frozen: who holds a message holds what was sent."""
    assert struct.__struct_config__.frozen


def test_the_envelope_is_specified() -> None:
    """The page has the first seven fields of every message in their order, and the schema."""
    rows = [line.split("`") for line in section("## Envelope") if line.startswith("| `")]

    assert [row[1] for row in rows] == list(fields_of(FIXED["ack"]))[:7]
    assert f"Schema: **{SCHEMA}**." in README.read_text(encoding="utf-8")


def test_every_refusal_code_is_specified() -> None:
    """The table of refusals has every code once, in the order of the code."""
    assert [str(code) for code in RefusalCode] == [row["code"] for row in table("## Refusals")]


def test_the_limits_are_specified() -> None:
    """Every limit in the table has the value it has in the code."""
    modules = (
        ack, arrays, blob, codec, contact_sheet, delta, envelope, head, images, names, signature,
        state, submodel, telemetry, topics,
    )  # fmt: skip
    known = {
        name: value
        for module in modules
        for name, value in vars(module).items()
        if name.startswith("MAX_") or name.endswith("_LIMIT")
    }

    specified = {row["limit"]: row["value"] for row in table("## Limits")}

    assert specified == {
        name: "2^62" if value == 2**62 else str(value) for name, value in known.items()
    }


def test_every_dtype_is_specified() -> None:
    """The eleven dtypes that travel are the ones the page names."""
    text = "\n".join(section("#### `array`"))

    assert {word for word in text.split("`")[1::2] if word[0] in "<|"} == arrays.DTYPES


def test_the_columns_are_specified() -> None:
    """The columns of a sample batch are the page's, with their dtypes."""
    rows = [line.split("`") for line in section("### `samples`") if "| `" in line]

    assert {row[1]: row[3] for row in rows if len(row) > 3 and row[3][0] == "<"} == COLUMNS


def test_the_columns_of_a_stream_are_specified() -> None:
    """The columns of a stream batch are the page's, with their dtypes."""
    lines = section("### `stream`")
    rows = [line.replace("\\", "").split("`") for line in lines if line.startswith("| `")]

    named = {row[1]: row[3] for row in rows if len(row) > 3 and row[3][0] in "<|"}

    assert named == STREAM_COLUMNS
    assert any(f"`{LABEL}`, `<u2`" in line for line in lines)


def test_the_example_of_a_digest_is_right() -> None:
    """The bytes on the page are those of the example, and so is the digest."""
    example = section("## Digests")
    shown = bytes.fromhex(example[example.index("```") + 1])
    held = {"a": np.array([[1.5], [-2.0]], np.float32)}

    assert f"{len(shown)} bytes" in example
    assert f"`{digest_bytes(shown)}`" in "\n".join(example)
    assert digest_bytes(shown) == digest_arrays(held)
