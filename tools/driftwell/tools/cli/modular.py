"""`driftwell modular`: models made of interchangeable modules."""

from pathlib import Path
from typing import Annotated

import typer

from driftwell.messages.errors import SettingsError
from driftwell.tools.cli.progress import progress_bar

app = typer.Typer(help="Models made of modules, of which each device gets those that it needs.",
                  no_args_is_help=True)  # fmt: skip

INTERRUPTED = 130


@app.command("train")
def train(
    *,
    bundle: Annotated[Path, typer.Option(help="Modular bundle, where it begins.")],
    data: Annotated[
        Path, typer.Option(help="Labelled source images, .npz: x and y, or JPEG files and y.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the new bundle.")],
    joint_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs in which modules and selector learn together.")
    ] = 10,
    ability_epochs: Annotated[
        int, typer.Option(min=0, help="Epochs after them, in which classes get their modules.")
    ] = 10,
    teacher: Annotated[
        Path | None,
        typer.Option(help="Bundle in one piece to learn after: best that of the network cut."),
    ] = None,
    distilled: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="Of the loss that asks for the teacher's answers and not for the labels (0.7).",
        ),
    ] = None,
    mirrors: Annotated[
        bool,
        typer.Option(
            "--mirrors", help="An image and its mirror image are of one class: half are mirrored."
        ),
    ] = False,
    shift: Annotated[
        int,
        typer.Option(
            min=0, metavar="PIXELS", help="By which an image may move and stay of its class."
        ),
    ] = 0,
    seed: Annotated[int, typer.Option(min=0, help="Draws batches, views, noise and absences.")] = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="Folder of the checkpoint (OUT.checkpoint).")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="For training.")] = 1,
) -> None:
    """Train modules and selector on the source data: the offline stage.

    After each epoch a checkpoint is written. The same command goes on from it after Ctrl-C or a
    kill, and comes to the very bits; in the end it is removed.

    Example: driftwell modular train --bundle bundles/modular --data train.npz
    --out bundles/trained --teacher bundles/whole --mirrors --shift 4
    """
    import torch

    from driftwell.cloud.modular.checkpoint import CHECKPOINT, Run
    from driftwell.cloud.modular.offline import data_digest, require_every_class, run_offline
    from driftwell.cloud.modular.offline_settings import OfflineSettings
    from driftwell.cloud.modular.teaching import open_teacher
    from driftwell.models.bundle import open_bundle
    from driftwell.models.modular.writing import create_modular_bundle
    from driftwell.models.state_folder import own_folder
    from driftwell.tools.anchors import read_anchors

    if not joint_epochs + ability_epochs:
        raise SettingsError("there is no epoch: give --joint-epochs or --ability-epochs")
    settings = OfflineSettings(
        joint_epochs=joint_epochs,
        ability_epochs=ability_epochs,
        mirrors=mirrors,
        shift=shift,
        distilled=_teachers_share(teacher, distilled),
    )
    torch.set_num_threads(threads)
    source = open_bundle(bundle)
    taught = None if teacher is None else open_teacher(teacher, source)
    classes = source.manifest.classes
    images, labels = read_anchors(data, shape=source.manifest.input.shape, classes=len(classes))
    require_every_class(labels, classes)
    run = Run(
        bundle=source.digest,
        data=data_digest(images, labels),
        teacher=None if taught is None else taught.digest,
        seed=seed,
        settings=settings,
    )
    folder = checkpoint or out.with_name(f"{out.name}.checkpoint")
    with own_folder(folder):
        try:
            with progress_bar("offline stage") as tell:
                trained = run_offline(
                    source, images, labels, run, folder,
                    teacher=None if taught is None else taught.module, progress=tell,
                )  # fmt: skip
        except KeyboardInterrupt:
            typer.echo(f"stopped; the same command goes on from {folder}", err=True)
            raise typer.Exit(INTERRUPTED) from None
        made = create_modular_bundle(
            out, base=source, network=trained.network, importance=trained.importance
        )
        (folder / CHECKPOINT).unlink()
    first, last = trained.epochs[0], trained.epochs[-1]
    typer.echo(
        f"{out}: {last.of} epochs, loss {first.loss:.3f} -> {last.loss:.3f}, self-test passed, "
        f"digest {made.digest[:12]}"
    )


@app.command("show")
def show(
    path: Annotated[Path, typer.Argument(help="Folder of a modular bundle, or a device's copy.")],
    *,
    pieces: Annotated[
        bool, typer.Option("--pieces", help="A line for each module, with its digest.")
    ] = False,
) -> None:
    """Verify what is there of a modular bundle, and say what it is made of.

    Example: driftwell modular show bundles/trained --pieces
    """
    from driftwell.models.modular.bundle import open_modular
    from driftwell.tools.modules_table import layer_lines, piece_lines

    bundle = open_modular(path)
    for line in piece_lines(bundle) if pieces else layer_lines(bundle):
        typer.echo(line)


@app.command("device-copy")
def device_copy(
    *,
    bundle: Annotated[Path, typer.Option(help="Modular bundle with all its modules.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
) -> None:
    """Write what a device begins with: trunk, selector, and the fallback's modules.

    It is the same bundle, with the same digest: other modules can be fetched later.

    Example: driftwell modular device-copy --bundle bundles/trained --out bundles/device
    """
    from driftwell.models.bundle import open_bundle
    from driftwell.models.modular.writing import write_device_copy

    copy = write_device_copy(open_bundle(bundle), out)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {size / 1e3:.1f} kB, self-test passed, digest {copy.digest[:12]}")


def _teachers_share(teacher: Path | None, given: float | None) -> float:
    """Of the loss; nothing without a teacher."""
    from driftwell.cloud.modular.teaching import SHARE

    if teacher is not None:
        return SHARE if given is None else given
    if given is not None:
        raise SettingsError("--distilled is for --teacher only: name one, or leave it out")
    return 0.0
