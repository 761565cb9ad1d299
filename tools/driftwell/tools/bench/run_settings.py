"""The settings of one run's devices and cloud, and the name of everything that decides it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import msgspec

from driftwell.cloud.settings import CloudSettings, method_document
from driftwell.edge.settings import EdgeSettings
from driftwell.messages.digest import digest_bytes
from driftwell.models.bundle import open_bundle
from driftwell.tools.bench.plan import (
    DEVICE,
    IN_PROCESS_BASELINES,
    POOL,
    Plan,
    Task,
    edge_defaults,
)
from driftwell.tools.configuration import read_settings

PLACES: Final = frozenset(
    {"bundle", "edge", "foundation", "start", "source", "broker", "state_dir", "predictions",
     "record", "metrics_port", "device"}
)  # fmt: skip
"""Settings that say where things are; what they hold is digested instead."""
ROLES_OF_A_RUN: Final = ("transport", "scenario", "batch", "seed", "images", "devices",
                         "pooling", "delay", "drop", "threads", "pace")  # fmt: skip


def edge_settings(
    plan: Plan, method: str, *, device: str = DEVICE, **places: object
) -> EdgeSettings:
    """A device's settings: what the method asks for, then the plan, then the user.

    Raises:
        SettingsError: if one is unknown or out of range.
    """
    return read_settings(
        EdgeSettings,
        defaults=edge_defaults(method),
        assignments=plan.settings_of_edge(method),
        flags={
            "bundle": plan.edge, "source": "npz:virtual", "device": device, "batch": plan.batch,
            "cohort": POOL if plan.pooling == "cohort" else None, "pace": plan.pace,
            "threads": plan.threads, **places,
        },
    )  # fmt: skip


def cloud_settings(plan: Plan, method: str, **places: object) -> CloudSettings:
    """The cloud's settings.

    Raises:
        SettingsError: if one is unknown or out of range.
    """
    return read_settings(
        CloudSettings,
        defaults={"method": method_document(method)},
        assignments=plan.settings_of_cloud(method),
        flags={
            "edge": plan.edge, "foundation": plan.foundation, "seed": plan.seed,
            "threads": plan.threads, **places,
        },
    )  # fmt: skip


class Keys:
    """Names runs by everything that decides their results.

    Files are read and digested once: they are taken to stay as they are while a bench runs.
    """

    def __init__(self) -> None:
        self._digests: dict[Path, str] = {}

    def key_of(self, task: Task) -> str:
        """16 hexadecimal digits; the same for the same run.

        Raises:
            DriftwellError: if a setting or a bundle is wrong.
        """
        plan = task.plan
        known: dict[str, Any] = {role: getattr(plan, role) for role in ROLES_OF_A_RUN}
        known |= {"name": task.name, "method": task.method, "edge": self._bundle(plan.edge)}
        known["streams"] = [(file.stem, self._file(file)) for file in task.streams]
        if task.method not in IN_PROCESS_BASELINES:
            cloud = cloud_settings(plan, task.method)
            known["edge_settings"] = _deciding(edge_settings(plan, task.method))
            known["cloud_settings"] = _deciding(cloud)
            known["foundation"] = self._bundle(plan.foundation)
            known["start"] = self._bundle(cloud.start) if cloud.start else None
        return digest_bytes(msgspec.json.encode(known, order="deterministic"))[:16]

    def _bundle(self, folder: Path) -> str:
        if folder not in self._digests:
            self._digests[folder] = open_bundle(folder).digest
        return self._digests[folder]

    def _file(self, file: Path) -> str:
        if file not in self._digests:
            self._digests[file] = digest_bytes(file.read_bytes())
        return self._digests[file]


def _deciding(settings: EdgeSettings | CloudSettings) -> Mapping[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(settings, enc_hook=str)
    return {name: value for name, value in document.items() if name not in PLACES}
