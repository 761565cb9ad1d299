"""What a modular bundle is made of, in lines for people."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Final

from driftwell.models.modular.bundle import ModularBundle
from driftwell.models.modular.inventory import ModuleEntry, list_modules, trunk_values

DIGITS: Final = 12
"""Of a digest."""


def layer_lines(bundle: ModularBundle) -> Iterator[str]:
    """The bundle, then a line a layer."""
    entries = list_modules(bundle)
    structure = bundle.spec.structure
    held = {entry.digest: entry.values for entry in entries if entry.is_held}
    every = {entry.digest: entry.values for entry in entries}
    rows = {
        "model": bundle.manifest.model,
        "digest": bundle.digest,
        "parameters": f"{bundle.manifest.parameters:,}",
        "modules": f"{structure.modules} in each of {len(bundle.places)} layers, of which "
        f"{structure.active} answer an image at most",
        "trunk": f"{_size(trunk_values(bundle))}, selector included",
        "held": f"{sum(map(bool, held.values()))} of {sum(map(bool, every.values()))} module "
        f"files, {_size(sum(held.values()))} of {_size(sum(every.values()))}",
        "fallback": f"{_size(sum(e.values for e in entries if e.is_fallback))} beside the trunk; "
        "its self-test passed",
    }
    for name, value in rows.items():
        yield f"{name:14} {value}"
    yield ""
    yield f"{'layer':>5}  {'in front':24} {'held':>6} {'values a module':>16} {'fallback':>9}"
    for layer, group in groupby(entries, key=attrgetter("layer")):
        yield _layer_line(layer, list(group))


def piece_lines(bundle: ModularBundle) -> Iterator[str]:
    """The trunk, then a line a module."""
    yield f"{'layer':>5} {'module':>6}  {'digest':{DIGITS}} {'values':>10} {'bytes':>10}  what"
    values = trunk_values(bundle)
    yield (
        f"{'-':>5} {'-':>6}  {bundle.spec.trunk[:DIGITS]} {values:>10,} {4 * values:>10,}  "
        "trunk and selector"
    )
    for entry in list_modules(bundle):
        said = ["fallback"] * entry.is_fallback + ["missing"] * (not entry.is_held)
        said += ["bypass"] * (not entry.values)
        yield (
            f"{entry.layer:>5} {entry.module:>6}  {entry.digest[:DIGITS]} {entry.values:>10,} "
            f"{entry.size_bytes:>10,}  {', '.join(said)}"
        ).rstrip()


def _layer_line(layer: int, entries: Sequence[ModuleEntry]) -> str:
    widths = {entry.values for entry in entries if entry.values}
    span = f"{min(widths):,}" if len(widths) == 1 else f"{min(widths):,} to {max(widths):,}"
    held = f"{sum(entry.is_held for entry in entries)}/{len(entries)}"
    names = [
        f"{entry.module}" if entry.values else "bypass" for entry in entries if entry.is_fallback
    ]
    return f"{layer:>5}  {entries[0].place:24} {held:>6} {span:>16} {', '.join(names):>9}"


def _size(values: int) -> str:
    return f"{values:,} values ({4 * values / 1e3:.1f} kB)"
