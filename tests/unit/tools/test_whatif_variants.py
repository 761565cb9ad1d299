"""Variants as they are written on the command line, and the settings they lead to."""

import json
from pathlib import Path
from typing import Any

import pytest

from driftwell.cloud.settings import CloudSettings, method_document
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.errors import RecordingError, SettingsError
from driftwell.tools.whatif.recorded import RecordedSettings, read_documents
from driftwell.tools.whatif.variants import AS_RECORDED, Variant, read_variants

HERE = Path("here")


def edge_settings(
    recorded: RecordedSettings, variant: Variant, cohort: str = "yard"
) -> EdgeSettings:
    return recorded.edge_settings(
        variant, device="cam-1", cohort=cohort, group="default", bundle=HERE
    )


def cloud_settings(recorded: RecordedSettings, variant: Variant) -> CloudSettings:
    return recorded.cloud_settings(variant, group="default", edge=HERE, foundation=HERE)


def test_the_first_variant_is_the_run_as_recorded() -> None:
    """Nothing asked, nothing changed."""
    assert read_variants([], []) == [Variant(AS_RECORDED)]


def test_each_set_is_a_variant() -> None:
    """Assignments with commas between belong to one, and each goes to its side."""
    first, second = read_variants(["filter.e_max=0.3,seed=1", "method=eta"], [])[1:]

    assert first == Variant("filter.e_max=0.3,seed=1", ("filter.e_max=0.3",), ("seed=1",))
    assert second == Variant("method=eta", method="eta")
    assert second.baseline == "eta"


def test_a_grid_is_every_combination() -> None:
    """Two keys of two values are four variants, the last key running fastest."""
    names = [variant.name for variant in read_variants([], ["filter.e_max=0.2,0.4", "seed=0,1"])]

    assert names == [
        AS_RECORDED,
        "filter.e_max=0.2,seed=0",
        "filter.e_max=0.2,seed=1",
        "filter.e_max=0.4,seed=0",
        "filter.e_max=0.4,seed=1",
    ]


@pytest.mark.parametrize(
    ("key", "side", "bare"),
    [
        ("edge.message_limit_bytes", "edge", "message_limit_bytes"),
        ("cloud.message_limit_bytes", "cloud", "message_limit_bytes"),
        ("edge.batch", "edge", "batch"),
        ("method.policy.batch", "cloud", "method.policy.batch"),
        ("filter.lambda", "edge", "filter.lambda"),
    ],
)
def test_a_prefix_names_the_side(key: str, side: str, bare: str) -> None:
    """With it or without: the assignment comes to the side it belongs to."""
    variant = read_variants([f"{key}=8192"], [])[1]

    assert getattr(variant, side) == (f"{bare}=8192",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("filter.e_mx=1", "did you mean 'filter.e_max'"),
        ("e_max=1", "did you mean 'filter.e_max'"),
        ("learning_rate=1", "'method.foundation.learning_rate' or 'method.distillation.learning"),
        ("message_limit_bytes=5000", "'edge.message_limit_bytes' or 'cloud.message_limit_bytes'"),
        ("edge.seed=1", "unknown setting 'edge.seed'"),
        ("pace=max", "decides nothing"),
        ("spool.window=3", "decides nothing"),
        ("method.name=x", "decides nothing"),
        ("zzzzzz=3", "known: method, cohort, batch"),
        ("method=magic", "known: none, bn, own, tent, eta, cema"),
        ("method=eta,filter.e_max=0.3", "leave out filter.e_max=0.3"),
        ("batch", "key=value"),
        ("seed=1,", "key=value"),
        ("=1", "key=value"),
    ],
)
def test_what_cannot_be_set_is_said(text: str, said: str) -> None:
    """One sentence with what was wrong and what is meant."""
    with pytest.raises(SettingsError) as error:
        read_variants([text], [])

    assert said in str(error.value)


@pytest.mark.parametrize("text", ["seed", "seed=", "seed=0,,1", "seed=0,filter.e_max=1"])
def test_a_grid_is_a_key_and_its_values(text: str) -> None:
    """Anything else is refused with the right form."""
    with pytest.raises(SettingsError, match="--grid takes key=value,value"):
        read_variants([], [text])


def test_a_grid_without_end_is_refused() -> None:
    """A thousand variants are a slip of the hand, and are refused before they are made."""
    values = ",".join(map(str, range(1000)))

    with pytest.raises(SettingsError, match="1000000000 variants"):
        read_variants([], [f"seed={values}", f"batch={values}", f"filter.warm_up_samples={values}"])


def test_recorded_settings_are_kept_but_for_what_is_set() -> None:
    """The documents are the settings, and the variant is laid over them."""
    edge = {"bundle": "/there", "source": "npz:x", "device": "cam-1", "batch": 7,
            "trust": "0" * 64, "filter": {"e_max": 0.9, "e_min": 0.1}}  # fmt: skip
    documents = {"settings:edge:default/cam-1": json.dumps(edge), "other": "x"}
    recorded = read_documents(documents, "default")

    settings = edge_settings(recorded, read_variants(["filter.e_max=0.5"], [])[1])

    assert (settings.batch, settings.filter.e_max, settings.filter.e_min) == (7, 0.5, 0.1)
    assert settings.bundle == HERE
    assert settings.cohort_name == "cam-1"


def test_without_documents_the_defaults_stand_in() -> None:
    """Of driftwell; the cohort is the one the batches name."""
    recorded = read_documents({}, "default")

    assert edge_settings(recorded, Variant("x")).cohort_name == "yard"
    assert edge_settings(recorded, Variant("x"), cohort="cam-1").cohort is None
    assert cloud_settings(recorded, Variant("x")).method.name == "driftwell"


def test_another_method_brings_its_own_settings() -> None:
    """What the recorded method was tuned to does not leak into another one."""
    method: dict[str, Any] = {**method_document("cema"), "name": "tuned"}
    method["policy"] = {**method["policy"], "batch": 48}
    document = {"edge": "/e", "foundation": "/f", "seed": 5, "method": method}
    recorded = read_documents({"settings:cloud:default": json.dumps(document)}, "default")

    as_recorded = cloud_settings(recorded, Variant("x"))
    other = cloud_settings(
        recorded, read_variants(["method=driftwell,method.replay.batch=8"], [])[1]
    )

    assert (as_recorded.method.policy.batch, as_recorded.seed) == (48, 5)
    assert (other.method.name, other.method.policy.batch) == ("driftwell", 64)
    assert (other.method.replay.batch, other.seed) == (8, 5)


def test_a_value_out_of_range_names_its_variant() -> None:
    """Before anything runs."""
    with pytest.raises(SettingsError, match=r"variant 'filter.e_max=7'.*<= 1"):
        edge_settings(read_documents({}, "default"), read_variants(["filter.e_max=7"], [])[1])


@pytest.mark.parametrize("text", ["{", "[]"])
def test_a_damaged_document_is_an_error_of_the_recording(text: str) -> None:
    """It names the document."""
    with pytest.raises(RecordingError, match="settings:cloud"):
        read_documents({"settings:cloud:default": text}, "default")
