"""Off-policy TD with linear values that does not diverge (Sutton and Barto 2018, sections 11.7 and 11.8).

Each rule gives numbers, which a learner multiplies with feature vectors: x of the state, x' of the next one. `error`
is the TD error δ, `ratio` ρ, `correction` v · x with the second weights v, which estimate δ by the features.
"""

from __future__ import annotations


def correction_error(ratio: float, error: float, correction: float) -> float:
    """ρ (δ - v · x): what v moves by along x, v ← v + β … x; for TDC and GTD2."""
    return ratio * (error - correction)


def tdc_amounts(ratio: float, error: float, correction: float, discount: float) -> tuple[float, float]:
    """What w moves by along x and along x' in TDC: ρ δ and -ρ γ (v · x); w ← w + α (… x + … x')."""
    return ratio * error, -ratio * discount * correction


def gtd2_amounts(ratio: float, correction: float, discount: float) -> tuple[float, float]:
    """What w moves by along x and along x' in GTD2: ρ (v · x) and -ρ γ (v · x); w ← w + α (… x + … x')."""
    return ratio * correction, -ratio * discount * correction


def followon(discount: float, previous_ratio: float, previous: float, interest: float) -> float:
    """Emphasis M = γ ρ' M' + I of a state, from the ratio and the emphasis of the state before; 0 before the first.

    >>> followon(0.5, 2.0, 1.5, 1.0)
    2.5
    """
    return discount * previous_ratio * previous + interest
