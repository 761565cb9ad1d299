"""Pure. The settings of a recorded run, as its documents say them, and a variant's changes.

Where a recording has no documents, the defaults stand in.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from driftwell.cloud.settings import DEFAULT_METHOD, CloudSettings, method_document
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.errors import RecordingError, SettingsError
from driftwell.recording.documents import edge_document, foundation_document
from driftwell.tools.configuration import read_settings
from driftwell.tools.replay.cloud_settings import recorded_settings
from driftwell.tools.whatif.variants import METHOD, Variant

Document = Mapping[str, Any]
Settings = TypeVar("Settings", EdgeSettings, CloudSettings)


@dataclass(frozen=True, slots=True)
class RecordedSettings:
    """The documents of a recording that say settings."""

    edges: Mapping[str, Document]
    """By device."""
    cloud: Document
    """What decided; empty if the recording does not say."""
    foundation: str | None = None
    """The digest of the bundle that taught; None if the recording does not say."""

    def edge_settings(
        self, variant: Variant, *, device: str, cohort: str, group: str, bundle: Path
    ) -> EdgeSettings:
        """A device's settings in a variant.

        Args:
            variant: What it changes.
            device: Whose settings.
            cohort: The cohort its batches name, for a device without a document.
            group: The group of its topics.
            bundle: The edge bundle that is here.

        Raises:
            SettingsError: if a value is out of range.
        """
        default = {"source": "npz:recorded", "cohort": None if cohort == device else cohort}
        return _named(
            variant,
            lambda: read_settings(
                EdgeSettings,
                defaults=self.edges.get(device, default),
                assignments=variant.edge,
                flags={"bundle": bundle, "device": device, "group": group},
            ),
        )

    def cloud_settings(
        self, variant: Variant, *, group: str, edge: Path, foundation: Path
    ) -> CloudSettings:
        """The cloud's settings in a variant; a baseline leaves the recorded method in them.

        Raises:
            SettingsError: if a value is out of range.
        """
        document = dict(
            self.cloud if METHOD in self.cloud else {METHOD: method_document(DEFAULT_METHOD)}
        )
        if variant.method is not None and variant.baseline is None:
            document[METHOD] = method_document(variant.method)
        return _named(
            variant,
            lambda: read_settings(
                CloudSettings,
                defaults=document,
                assignments=variant.cloud,
                flags={"edge": edge, "foundation": foundation, "group": group},
            ),
        )


def read_documents(documents: Mapping[str, str], group: str) -> RecordedSettings:
    """Find a group's settings among a recording's documents.

    Raises:
        RecordingError: if one is not the JSON object it should be.
    """
    prefix = edge_document(group, "")
    return RecordedSettings(
        {
            name.removeprefix(prefix): _parse(name, text)
            for name, text in documents.items()
            if name.startswith(prefix)
        },
        recorded_settings(documents, group),
        documents.get(foundation_document(group)),
    )


def _parse(name: str, text: str) -> Document:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise RecordingError(f"the recording's document {name!r} is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise RecordingError(f"the recording's document {name!r} is no JSON object")
    return document


def _named(variant: Variant, read: Callable[[], Settings]) -> Settings:
    try:
        return read()
    except SettingsError as error:
        raise SettingsError(f"variant {variant.name!r}: {error}") from error
