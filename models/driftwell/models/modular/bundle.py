"""A modular bundle on disk, in pieces: `folder` says in which files.

Opened with `bundle.open_bundle`, one that holds all its modules is a bundle like any other. A
device opens it with `open_modular`, and needs the modules of the fallback sub-model only.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from driftwell.messages.errors import BundleError
from driftwell.models.bundle import read_manifest, require_scope
from driftwell.models.manifest import BundleManifest
from driftwell.models.modular.cutting import Chosen, held_places
from driftwell.models.modular.folder import (
    SOURCE,
    held_pieces,
    read_arrays,
    read_module_file,
    read_trunk_file,
)
from driftwell.models.modular.module_layer import Place
from driftwell.models.modular.network import ModularNetwork
from driftwell.models.modular.pieces import EMPTY, Arrays
from driftwell.models.modular.shares import ChannelShare, channel_shares, whole_shape
from driftwell.models.modular.skeleton import (
    ArraysOf,
    build_skeleton,
    put_modules,
    put_trunk,
    spec_places,
)
from driftwell.models.modular.spec import ModularSpec
from driftwell.models.network import Network
from driftwell.models.normalisation import Scope
from driftwell.models.own_statistics import StatisticsSettings
from driftwell.models.selftest import FALLBACK_LOGITS, run_selftest, selftest_images


@dataclass(frozen=True, slots=True, eq=False)
class ModularBundle:
    """A modular bundle as a device has it: verified as far as it is there."""

    path: Path
    digest: str
    manifest: BundleManifest
    spec: ModularSpec
    places: tuple[Place, ...]
    """The module layers of the whole model."""
    trunk: Arrays
    """Trunk and selector, in memory once."""
    scope: Scope
    """Which arrays may adapt."""
    source: Arrays | None
    """The whole model's adaptable state, version 0; None: it is not in the folder."""

    def skeleton(self) -> ModularNetwork:
        """The whole network with trunk and selector in place, and all modules' arrays zero."""
        network = build_skeleton(self.manifest.model, self.spec, self.manifest.input.shape)
        put_trunk(network, self.trunk, where=str(self.path))
        return network

    def module_arrays(self, layer: int, module: int) -> Arrays | None:
        """A module's arrays from its file, verified; none for the bypass; None: not held.

        Raises:
            BundleError: if there is no such module, or its file was altered.
        """
        modules = self.spec.modules
        if not (0 <= layer < len(modules) and 0 <= module < len(modules[layer])):
            raise BundleError(f"{self.path} has no module {module} of layer {layer}")
        return read_module_file(self.path, modules[layer][module])

    def sub_model(self, chosen: Chosen, arrays_of: ArraysOf | None = None) -> ModularNetwork:
        """A sub-model of its own; nothing larger than it and the uncut network is ever built.

        Args:
            chosen: For each module layer the numbers of its modules, one at least.
            arrays_of: Gives their arrays, of any version; None: those in the folder.

        Raises:
            BundleError: if a layer is left empty, there is no such module, or its arrays are
                missing or do not fit.
        """
        size = self.manifest.input.shape
        network = build_skeleton(self.manifest.model, self.spec, size, chosen)
        put_trunk(network, self.trunk, where=str(self.path))
        put_modules(network, arrays_of or self.module_arrays, where=str(self.path))
        return network

    def network(
        self,
        chosen: Chosen,
        arrays_of: ArraysOf | None = None,
        *,
        own_statistics: StatisticsSettings | None = None,
        bfloat16: bool = False,
    ) -> Network:
        """A sub-model at work; arguments are those of `sub_model` and of `Bundle.network`."""
        network = Network(
            self.sub_model(chosen, arrays_of),
            self.manifest.preprocessing,
            scope=self.scope,
            own_statistics=own_statistics,
            bfloat16=bfloat16,
        )
        if own_statistics is not None and self.scope == "all":
            network.keep_stem(selftest_images(self.manifest.input.shape))
        return network

    def adaptable_slices(self, chosen: Chosen) -> dict[str, ChannelShare | None]:
        """What of each adaptable array of the whole model a sub-model has (`shares.take_shares`).

        Raises:
            BundleError: if a layer is left empty, or there is no such module.
        """
        names = [entry.name for entry in self.manifest.adaptable]
        return channel_shares(self.places, held_places(self.places, chosen), names)


def open_modular(path: Path) -> ModularBundle:
    """Read what is there of a modular bundle, verify it, and run the fallback's self-test.

    Raises:
        BundleError: if it is no modular bundle, manifest, self-test, trunk or a module of the
            fallback are missing, a file was altered or is no module's, the source state is
            needed and missing, or the self-test gives other logits.
    """
    digest, manifest = read_manifest(path)
    spec = manifest.modular
    if spec is None:
        raise BundleError(f"{path} is a bundle in one piece; open it with open_bundle")
    places = spec_places(manifest.model, spec)
    trunk = read_trunk_file(path, spec)
    held = held_pieces(path, spec)
    for piece in sorted(held - {EMPTY}):
        read_module_file(path, piece)
    source = path / SOURCE
    bundle = ModularBundle(
        path,
        digest,
        manifest,
        spec,
        places,
        trunk,
        "normalisation",
        read_arrays(source, manifest.source_digest) if source.exists() else None,
    )
    module = bundle.sub_model(spec.fallback)
    shares = channel_shares(places, module.places, module.state_dict())
    scope = require_scope(
        path, manifest, module, widened=lambda name, shape: whole_shape(shape, shares[name])
    )
    is_whole = held.issuperset(piece for layer in spec.modules for piece in layer)
    if scope == "normalisation" and bundle.source is None and not is_whole:
        raise BundleError(
            f"{source} does not exist, and modules are missing: without either a device can take "
            "no version; write the copy anew with: driftwell modular device-copy"
        )
    network = Network(module, manifest.preprocessing, scope=scope)
    run_selftest(path, manifest, network, logits=FALLBACK_LOGITS)
    return replace(bundle, scope=scope)
