"""Layers and arrays that a network has under several names: they cannot be cut.

A layer is replaced under one name, and would go on as it was under the other.
"""

from collections import defaultdict
from collections.abc import Callable

from torch import nn


def second_names(network: nn.Module) -> Callable[[str], str | None]:
    """For a submodule's name another one of it, or of an array in it; None: there is none."""
    names: dict[int, list[str]] = defaultdict(list)
    modules: dict[str, nn.Module] = {}
    for name, module in network.named_modules(remove_duplicate=False):
        names[id(module)].append(name)
        modules[name] = module
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names[id(parameter)].append(name)
    for name, buffer in network.named_buffers(remove_duplicate=False):
        names[id(buffer)].append(name)

    def second(name: str) -> str | None:
        module = modules[name]
        others = [other for other in names[id(module)] if other != name]
        for tensor in (*module.parameters(), *module.buffers()):
            others += [o for o in names[id(tensor)] if not o.startswith(f"{name}.")]
        return others[0] if others else None

    return second
