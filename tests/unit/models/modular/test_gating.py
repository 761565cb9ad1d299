"""Gates: few are open, they share one answer, and the losses see who is left out."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from driftwell.models.modular.gating import expected_load, noisy, open_gates, squared_variation


@given(st.integers(1, 6), st.integers(1, 9), st.integers(1, 12), st.integers(0, 1000))
def test_gates_share_one_answer(rows: int, modules: int, active: int, seed: int) -> None:
    """At most `active` a row are open, the highest scores, in their order, with sum 1."""
    scores = torch.randn(rows, modules, generator=torch.Generator().manual_seed(seed))
    gates = open_gates(scores, active=active)

    torch.testing.assert_close(gates.sum(dim=1), torch.ones(rows))
    assert (gates >= 0).all()
    assert ((gates > 0).sum(dim=1) == min(active, modules)).all()
    assert torch.equal(gates.argmax(dim=1), scores.argmax(dim=1))


def test_what_is_away_is_not_chosen() -> None:
    """However high its score; if fewer are there than may be active, they share."""
    scores = torch.tensor([[9.0, 1.0, 2.0, 8.0]])
    available = torch.tensor([False, True, True, False])

    gates = open_gates(scores, active=3, available=available)

    assert gates[0, [0, 3]].tolist() == [0, 0]
    torch.testing.assert_close(gates[0, [1, 2]], torch.softmax(torch.tensor([1.0, 2.0]), 0))


def test_of_equal_scores_the_first_are_taken() -> None:
    """So a selector that knows no difference yet answers alike on every machine."""
    gates = open_gates(torch.zeros(2, 16), active=3)

    torch.testing.assert_close(gates[:, :3], torch.full((2, 3), 1 / 3))
    assert not gates[:, 3:].any()


def test_noise_is_drawn_from_the_generator() -> None:
    """The same generator gives the same noise; a small scale little of it."""
    scores, spread = torch.zeros(4, 5), torch.full((4, 5), -20.0)
    first = noisy(scores, torch.zeros(4, 5), torch.Generator().manual_seed(1))
    again = noisy(scores, torch.zeros(4, 5), torch.Generator().manual_seed(1))

    assert torch.equal(first, again)
    assert noisy(scores, spread, torch.Generator()).abs().max() < 1e-6


def test_even_use_costs_nothing() -> None:
    """And all on one module the most."""
    assert squared_variation(torch.ones(8)) == 0
    assert squared_variation(torch.tensor([1.0])) == 0
    one = squared_variation(torch.tensor([8.0, 0, 0, 0]))
    two = squared_variation(torch.tensor([4.0, 4, 0, 0]))
    assert one > two > 0


def test_the_expected_load_is_the_mean_over_the_noise() -> None:
    """Against drawing the noise of one module many times, the others' staying."""
    clean = torch.tensor([[0.3, 0.1, -0.2, 0.0]])
    spread = torch.zeros(1, 4)
    with_noise = noisy(clean, spread, torch.Generator().manual_seed(0))
    load = expected_load(clean, with_noise, spread, active=2)

    generator = torch.Generator().manual_seed(7)
    for module in range(4):
        drawn = with_noise.repeat(20_000, 1)
        drawn[:, module] = noisy(clean.repeat(20_000, 1), spread, generator)[:, module]
        chosen = (drawn.topk(2, dim=1).indices == module).any(dim=1).float().mean()
        torch.testing.assert_close(load[module], chosen, atol=0.015, rtol=0)
    assert expected_load(clean, with_noise, spread, active=4).tolist() == [1, 1, 1, 1]
