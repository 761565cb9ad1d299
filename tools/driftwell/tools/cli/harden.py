"""`driftwell bundle harden`: a start for the edge model that drift harms less."""

from pathlib import Path
from typing import Annotated

import typer

from driftwell.messages.errors import SettingsError
from driftwell.tools.cli.progress import progress_bar


def run_harden(
    *,
    edge: Annotated[Path, typer.Option(help="Bundle of the edge model, where it begins.")],
    foundation: Annotated[Path, typer.Option(help="Bundle of the robust model that teaches.")],
    anchors: Annotated[
        Path, typer.Option(help="Labelled source images, .npz: x and y, or JPEG files and y.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    epochs: Annotated[float, typer.Option(min=0.01, help="Passes over the anchors.")] = 12.0,
    seed: Annotated[int, typer.Option(min=0, help="Draws batches and distortions.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="For training.")] = 1,
    bfloat16: Annotated[
        bool, typer.Option("--bfloat16", help="Twice as fast on a processor with AMX; other bits.")
    ] = False,
) -> None:
    """Teach the edge model, before anything has drifted, what makes the foundation robust.

    The foundation model answers source images under generic distortions, and the edge model
    learns its answers: once, about a quarter of an hour on one core for CIFAR. Deploy the
    new bundle, or leave the devices as they are and give it to the cloud as `start`.

    Example: driftwell bundle harden --edge bundles/edge --foundation bundles/foundation
    --anchors train.npz --out bundles/hardened
    """
    import numpy as np
    import torch

    from driftwell.cloud.hardening import HardeningSettings, harden
    from driftwell.models.bundle import open_bundle
    from driftwell.models.modular.writing import rewrite_bundle
    from driftwell.tools.anchors import read_anchors

    torch.set_num_threads(threads)
    source = open_bundle(edge)
    manifest = source.manifest
    images, labels = read_anchors(
        anchors, shape=manifest.input.shape, classes=len(manifest.classes)
    )
    settings = HardeningSettings(epochs=epochs, bfloat16=bfloat16)
    if len(images) < settings.batch:
        raise SettingsError(f"{anchors} has {len(images)} images, {settings.batch} are needed")
    losses: list[float] = []
    with progress_bar("hardening") as tell:

        def progress(step: int, steps: int, loss: float) -> None:
            losses.append(loss)
            tell(step, steps)

        weights = harden(
            open_bundle(foundation), source, images, labels, settings,
            np.random.default_rng(seed), progress,
        )  # fmt: skip
    bundle = rewrite_bundle(
        source, out, {name: weights.get(name, array) for name, array in source.weights.items()}
    )
    tenth = max(1, len(losses) // 10)
    typer.echo(
        f"{out}: {len(losses)} steps, loss {np.mean(losses[:tenth]):.3f} -> "
        f"{np.mean(losses[-tenth:]):.3f}, self-test passed, digest {bundle.digest[:12]}"
    )
