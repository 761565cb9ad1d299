"""The offline stage between two epochs as one file, `checkpoint.safetensors`.

It holds all that the next epoch depends on: the network, Adam's moments, both generators and the
gate labels; and, as JSON in its header, which run it is of and how far that is. A run that goes
on from it comes to the bits of one that was never stopped.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from driftwell.cloud.modular.offline_settings import OfflineSettings
from driftwell.cloud.modular.training import Epoch, Training, begin_training
from driftwell.messages.envelope import Digest
from driftwell.messages.errors import SettingsError
from driftwell.models.modular.network import ModularNetwork

CHECKPOINT: Final = "checkpoint.safetensors"
PARTIAL: Final = "checkpoint.partial"
"""What is being written; of no use after a kill, and overwritten by the next one."""
SCHEMA: Final = 1

_HEADER: Final = "driftwell"
_MOMENTS: Final = ("step", "exp_avg", "exp_avg_sq")

Arrays = Mapping[str, NDArray[np.generic]]


class Run(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What decides the bits of a run, on one machine and with one number of threads."""

    bundle: Digest
    """Of the modular bundle it begins with."""
    data: Digest
    """Of images and labels."""
    teacher: Digest | None = None
    """Of its bundle; None: labels alone, as in checkpoints of before there were teachers."""
    seed: Annotated[int, msgspec.Meta(ge=0)]
    settings: OfflineSettings


class _Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema: int
    run: Run
    epochs: tuple[Epoch, ...]
    """Those that are done."""


def write_checkpoint(folder: Path, run: Run, training: Training, epochs: Sequence[Epoch]) -> None:
    """Write a checkpoint in place of the one before, whole or not at all.

    Args:
        folder: Which is there, and nobody else's.
        run: What the training is of.
        training: Between two epochs.
        epochs: What was told of those that are done.

    Raises:
        SettingsError: if the disk does not take it.
    """
    header = _Header(schema=SCHEMA, run=run, epochs=tuple(epochs))
    content = save(
        dict(_arrays(training)), metadata={_HEADER: msgspec.json.encode(header).decode()}
    )
    try:
        with (folder / PARTIAL).open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        (folder / PARTIAL).replace(folder / CHECKPOINT)
    except OSError as error:
        raise SettingsError(f"no checkpoint can be written to {folder}: {error}") from error


def read_checkpoint(
    folder: Path, run: Run, network: ModularNetwork
) -> tuple[Training, list[Epoch]] | None:
    """The training as it was after the last epoch that was written; None: there is none.

    Args:
        folder: Of the checkpoint.
        run: What the training must be of.
        network: Of the run's bundle; takes the checkpoint's arrays.

    Raises:
        SettingsError: if it is of another run, or damaged.
    """
    file = folder / CHECKPOINT
    if not file.exists():
        return None
    try:
        with safe_open(file, framework="numpy") as content:
            header = msgspec.json.decode((content.metadata() or {})[_HEADER], type=_Header)
            arrays = {name: content.get_tensor(name) for name in content.keys()}  # noqa: SIM118
        if header.schema != SCHEMA:
            raise SettingsError(f"{file} has schema {header.schema}, known is {SCHEMA}")
        _require_same(file, header.run, run)
        return _training(arrays, len(header.epochs), run, network), list(header.epochs)
    except (
        SafetensorError,
        msgspec.MsgspecError,
        KeyError,
        ValueError,
        RuntimeError,
        OSError,
    ) as e:
        raise SettingsError(f"{file} is damaged ({e}); remove it to begin anew") from e


def _require_same(file: Path, written: Run, wanted: Run) -> None:
    differing = [
        field
        for field in Run.__struct_fields__
        if getattr(written, field) != getattr(wanted, field)
    ]
    if differing:
        raise SettingsError(
            f"{file} is of another run: {', '.join(differing)} differ; give this run another "
            "folder with --checkpoint, or remove the file"
        )


def _arrays(training: Training) -> Arrays:
    """All that changes from epoch to epoch, by name."""
    arrays: dict[str, NDArray[np.generic]] = {
        f"network/{name}": _copied(tensor) for name, tensor in training.network.state_dict().items()
    }
    for number, moments in training.optimiser.state_dict()["state"].items():
        arrays |= {f"adam/{number}/{name}": _copied(moments[name]) for name in _MOMENTS}
    arrays["generator"] = _copied(training.generator.get_state())
    arrays["ambient"] = _copied(training.ambient)
    arrays |= {f"labels/{layer}": labels for layer, labels in enumerate(training.labels)}
    return arrays


def _training(arrays: Arrays, done: int, run: Run, network: ModularNetwork) -> Training:
    """The same again, from its arrays."""

    def under(prefix: str) -> dict[str, Any]:
        named = {name: array for name, array in arrays.items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): torch.from_numpy(array) for name, array in named.items()}

    network.load_state_dict(under("network/"))
    training = begin_training(network, run.settings, seed=run.seed)
    moments: dict[int, dict[str, Any]] = {}
    for name, tensor in under("adam/").items():
        number, _, moment = name.partition("/")
        moments.setdefault(int(number), {})[moment] = tensor
    groups = training.optimiser.state_dict()["param_groups"]
    training.optimiser.load_state_dict({"state": moments, "param_groups": groups})
    training.generator.set_state(torch.from_numpy(arrays["generator"]))
    training.ambient = torch.from_numpy(arrays["ambient"])
    layers = sum(name.startswith("labels/") for name in arrays)
    training.labels = [arrays[f"labels/{layer}"].astype(np.float64) for layer in range(layers)]
    training.done = done
    return training


def _copied(tensor: torch.Tensor) -> NDArray[np.generic]:
    return np.array(tensor.detach().numpy(), order="C")
