"""A modular network: a trunk with module layers in it, and the selector that opens their gates.

To everybody else it is a torch module like any other: inputs in, logits out. So norm
parameters and BatchNorm statistics of a sub-model adapt as those of a whole model do.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from driftwell.models.modular.gating import open_gates
from driftwell.models.modular.module_layer import Board, Place
from driftwell.models.modular.selector import Selector
from driftwell.models.modular.spec import Pair, Structure


class ModularNetwork(nn.Module):
    """All modules of a model, or a sub-model with some of them; not thread safe."""

    def __init__(
        self,
        trunk: nn.Module,
        selector: Selector,
        places: Sequence[Place],
        board: Board,
        *,
        structure: Structure,
        pairs: Sequence[Pair],
        shape: tuple[int, ...],
    ) -> None:
        """Args are its parts; `decomposition` makes them fit.

        Args:
            trunk: With a module layer at each of the places, which read the board.
            selector: Scores all modules of the whole model.
            places: In the order of the selector's heads.
            board: Between this and the module layers.
            structure: How the whole model was cut.
            pairs: Of its layers before, one a place.
            shape: Of one input.
        """
        super().__init__()
        self.trunk = trunk
        self.selector = selector
        self.places = tuple(places)
        self.board = board
        self.structure = structure
        self.pairs = tuple(pairs)
        self.shape = shape
        self.active = structure.active
        for number, place in enumerate(self.places):
            self.register_buffer(_held_name(number), torch.tensor(place.held), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Inputs (N, ...) to logits (N, classes), by the modules the selector scores highest."""
        scores, _ = self.selector(inputs)
        return self.answer(inputs, self.gates(scores))

    def gates(
        self, scores: Sequence[Tensor], *, available: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Open the gates of the modules it holds.

        Args:
            scores: For each layer (N, all its modules).
            available: For each layer bool (all its modules,) or (N, all its modules): which
                may be chosen of those it holds; None: any.

        Returns:
            For each layer gates (N, modules it holds).
        """
        opened = []
        for number, all_scores in enumerate(scores):
            held = self.get_buffer(_held_name(number))
            limited = None if available is None else available[number][..., held]
            opened.append(open_gates(all_scores[:, held], active=self.active, available=limited))
        return opened

    def answer(self, inputs: Tensor, gates: Sequence[Tensor]) -> Tensor:
        """Inputs (N, ...) to logits (N, classes), with these gates (N, modules held) a layer."""
        self.board.gates = list(gates)
        try:
            logits: Tensor = self.trunk(inputs)
        finally:  # a pass that failed leaves nothing behind, or no copy could be made any more
            self.board.gates = []
            self.board.inputs.clear()
        return logits

    def importance(self, inputs: Tensor) -> list[Tensor]:
        """Mean gates over inputs (N, ...): for each layer (all its modules,), with sum 1.

        By the selector alone: no module runs, and it need not hold them (Nebula, ICPP 2024,
        section 5.1). Over the whole softmax, so that modules that just miss count, too.
        """
        scores, _ = self.selector(inputs)
        return mean_gates(scores)

    @property
    def held(self) -> tuple[tuple[int, ...], ...]:
        """For each layer the numbers of the modules it holds."""
        return tuple(place.held for place in self.places)


def mean_gates(scores: Sequence[Tensor]) -> list[Tensor]:
    """Importance from the selector's scores: for each layer (N, modules) to (modules,)."""
    return [torch.softmax(layer, dim=1).mean(dim=0) for layer in scores]


def _held_name(number: int) -> str:
    return f"_held_{number}"
