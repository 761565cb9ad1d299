"""`driftwell bundle`: make model bundles and look into them."""

from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from driftwell.messages.errors import SettingsError

if TYPE_CHECKING:
    from driftwell.models.modular.spec import Structure
    from driftwell.models.normalisation import Scope

app = typer.Typer(help="Model bundles: weights with everything needed to run them.",
                  no_args_is_help=True)  # fmt: skip


@app.command("create")
def create(
    *,
    model: Annotated[str, typer.Option(help="cifar-resnet20|32|44|56, or package.module:factory.")],
    weights: Annotated[Path, typer.Option(help="Safetensors file of the model's state.")],
    out: Annotated[Path, typer.Option(help="Folder to write.")],
    shape: Annotated[
        str | None, typer.Option("--input", metavar="HxWxC", help="Image size, such as 32x32x3.")
    ] = None,
    classes: Annotated[
        str | None, typer.Option(help="Names with commas between, or how many there are.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option(help="Of pixels / 255, a channel each: 0.485,0.456,0.406.")
    ] = None,
    std: Annotated[str | None, typer.Option(help="Likewise.")] = None,
    adaptable: Annotated[
        str, typer.Option(help="What may adapt: normalisation (its layers' state) or all weights.")
    ] = "normalisation",
    modular: Annotated[
        bool, typer.Option("--modular", help="Cut the network into interchangeable modules.")
    ] = False,
    modules: Annotated[
        int | None, typer.Option(help="Of a module layer, the bypass included (16).")
    ] = None,
    slices: Annotated[
        int | None, typer.Option(help="Of a block's width; a module has one of them (8).")
    ] = None,
    active: Annotated[
        int | None, typer.Option(help="Modules of a layer that answer one image, at most (4).")
    ] = None,
    layers: Annotated[
        int | None, typer.Option(help="Cut only the last so many blocks (all).")
    ] = None,
) -> None:
    """Make a bundle and run its self-test.

    With --modular its modules have not learned apart yet: driftwell modular train comes next.

    Example: driftwell bundle create --model cifar-resnet20 --weights resnet20.safetensors
    --out bundles/edge. A model of your own also needs --input, --classes, --mean, --std.
    With --modular --modules 16 --slices 8 it is cut into modules.
    """
    from driftwell.models.bundle import create_bundle
    from driftwell.models.factories import BUILT_INS
    from driftwell.models.preprocessing import Preprocessing
    from driftwell.models.weights import read_safetensors

    scope = _parse_adaptable(adaptable)
    known = BUILT_INS.get(model)
    if known is None and not (shape and classes and mean and std):
        raise SettingsError(
            "a model of your own needs all of --input HxWxC, --classes, --mean and --std"
        )
    preprocessing = known.preprocessing if known else Preprocessing(mean=(), std=())
    structure = _parse_structure(
        modular, {"modules": modules, "slices": slices, "active": active, "layers": layers}
    )
    make = partial(
        create_bundle,
        model=model,
        weights=read_safetensors(weights),
        shape=_parse_shape(shape) if shape else known.shape if known else (0, 0, 0),
        classes=_parse_classes(classes) if classes else known.classes if known else (),
        preprocessing=Preprocessing(
            mean=_parse_numbers(mean, "--mean") if mean else preprocessing.mean,
            std=_parse_numbers(std, "--std") if std else preprocessing.std,
        ),
        scope=scope,
    )
    if structure is None:
        bundle = make(out)
    else:
        from driftwell.models.modular.writing import cut_bundle

        with TemporaryDirectory(prefix="driftwell-") as folder:
            bundle = cut_bundle(make(Path(folder) / "bundle"), out, structure)
    typer.echo(f"{out}: self-test passed, digest {bundle.digest[:12]}")


@app.command("show")
def show(path: Annotated[Path, typer.Argument(help="Folder of the bundle.")]) -> None:
    """Verify a bundle, run its self-test, and say what it holds."""
    from driftwell.models.bundle import open_bundle

    bundle = open_bundle(path)
    manifest = bundle.manifest
    adaptable = sum(array.size for array in bundle.source.values())
    height, width, channels = manifest.input.shape
    rows = {
        "model": manifest.model,
        "digest": bundle.digest,
        "input": f"{height} x {width} x {channels}, {manifest.input.dtype}",
        "classes": f"{len(manifest.classes)}: {', '.join(manifest.classes[:10])}",
        "preprocessing": f"mean {manifest.preprocessing.mean}, std {manifest.preprocessing.std}",
        "parameters": f"{manifest.parameters:,}",
        "adaptable": f"{bundle.scope}: {adaptable:,} values in {len(bundle.source)} arrays "
        f"({adaptable * 2 / 1e3:.1f} kB a delta at most)",
        "self-test": "passed",
    }
    if manifest.modular is not None:
        each, count = manifest.modular.structure.modules, len(manifest.modular.pairs)
        rows["modules"] = f"{each} in each of {count} layers (see: driftwell modular show)"
    for name, value in rows.items():
        typer.echo(f"{name:14} {value}")


def _parse_structure(modular: bool, given: dict[str, int | None]) -> "Structure | None":
    from driftwell.models.modular.spec import Structure

    said = {name: value for name, value in given.items() if value is not None}
    if not modular:
        if said:
            raise SettingsError(f"--{next(iter(said))} is for --modular only")
        return None
    try:
        return msgspec.convert(said, Structure)
    except msgspec.ValidationError as error:
        raise SettingsError(f"the network cannot be cut like that: {error}") from error


def _parse_adaptable(text: str) -> "Scope":
    if text == "normalisation":
        return "normalisation"
    if text == "all":
        return "all"
    raise SettingsError(f"--adaptable {text!r} is not known; use normalisation or all")


def _parse_shape(text: str) -> tuple[int, int, int]:
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isdigit() and int(part) for part in parts):  # noqa: PLR2004
        raise SettingsError(f"--input {text!r} is not HxWxC, such as 32x32x3")
    return int(parts[0]), int(parts[1]), int(parts[2])


def _parse_classes(text: str) -> tuple[str, ...]:
    if text.isdigit():
        return tuple(str(number) for number in range(int(text)))
    return tuple(name.strip() for name in text.split(","))


def _parse_numbers(text: str, option: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise SettingsError(f"{option} {text!r} is not numbers with commas between") from None
