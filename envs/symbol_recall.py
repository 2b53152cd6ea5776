"""Symbols to be recalled: those of k steps ago, or a whole sequence (POPGym, Morad et al. 2023)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

import gymnasium as gym
from gymnasium import spaces

from rlkit.envs.known_returns import KnownReturns
from rlkit.envs.pictures import METADATA, Colour, Picture, checked_render_mode, rendered
from rlkit.errors import UsageError

Order: TypeAlias = Literal["backward", "forward"]


class _SymbolRecall(gym.Env[Any, Any], ABC):
    """Symbols 0 … n - 1, drawn evenly and independently, of which some are to be named later."""

    metadata = METADATA

    def __init__(self, length: int, symbols: int, render_mode: str | None) -> None:
        self.render_mode = checked_render_mode(render_mode)
        self.length, self.symbols = length, _checked_count(symbols)
        self.action_space = spaces.Discrete(symbols)
        self.sequence = [0] * length
        self._steps = 0

    @property
    def known_returns(self) -> KnownReturns:
        """For these arguments."""
        return _recall_returns(self.symbols)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """The first symbol.

        Raises:
            UsageError: `options` names too few or too many symbols, or one that does not exist.
        """
        super().reset(seed=seed)
        given = None if options is None else options.get("symbols")
        drawn = self.np_random.integers(self.symbols, size=self.length) if given is None else given
        self.sequence, self._steps = _checked_sequence(drawn, self.length, self.symbols), 0
        return self.sequence[0], {}

    @abstractmethod
    def picture(self) -> Picture:
        """What is in sight; the caption tells what is to be named."""

    def render(self) -> Any:
        """The picture, [H, W, 3] uint8, or text."""
        return rendered(self.picture, self.render_mode)


class RepeatPrevious(_SymbolRecall):
    """Name the symbol of k steps ago.

    Every step shows one of n symbols, drawn evenly and independently, as Discrete(n). An episode shows `length`
    symbols. The action answers with the symbol that was seen k steps before the one now in sight; 1 / (length - k)
    for a right answer, as much off for a wrong one, nothing for the first k actions, when there is nothing to repeat.
    The episode terminates with the answer to its last symbol. `reset(options={"symbols": […]})` fixes the symbols.

    The best return is 1. Every memoryless policy expects 2 / n - 1, as random actions do: what is seen says nothing
    of the symbol of k steps ago, so that any answer is right with probability 1 / n.

    After POPGym, Morad et al. (2023), https://arxiv.org/abs/2303.01859. There the symbols are suits of a shuffled
    deck, of which the cards already seen tell a little, k counts the card in sight, so that this k = 3 is its 4, and
    the end truncates.

    Args:
        k: steps back, at least 1.
        length: symbols of an episode, more than k; the default is a deck's.
        symbols: n, at least 2.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: an argument is out of these ranges, or `options` names symbols that do not fit.
    """

    def __init__(self, *, k: int = 4, length: int = 52, symbols: int = 4, render_mode: str | None = None) -> None:
        if not 1 <= k < length:
            raise UsageError(f"k is {k}, it must be at least 1 and below length, which is {length}")
        super().__init__(length, symbols, render_mode)
        self.k = k
        self.observation_space = spaces.Discrete(symbols)

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """The next symbol; after the last answer, the last one again."""
        assert self.action_space.contains(action), f"{action!r} ({type(action)}) invalid"
        shown, reward = self._steps, 0.0
        if shown >= self.k:
            reward = (1.0 if action == self.sequence[shown - self.k] else -1.0) / (self.length - self.k)
        terminated = shown == self.length - 1
        self._steps = shown = shown if terminated else shown + 1
        return self.sequence[shown], reward, terminated, False, {}

    def picture(self) -> Picture:
        """The symbols side by side, the agent on the one in sight; the caption tells the one to repeat."""
        seen = self.sequence[self._steps]
        asked = f", to repeat {self.sequence[self._steps - self.k]}" if self._steps >= self.k else ""
        return Picture(("." * self.symbols,), agent=(0, seen), caption=f"step {self._steps}, symbol {seen}{asked}")


class Autoencode(_SymbolRecall):
    """Watch a sequence of symbols, then say it from the last to the first.

    The first `length` observations are symbols 0 … n - 1, drawn evenly and independently; actions are then ignored.
    The next `length` observations are n, the sign to answer: the first answer is the last symbol, and so on back to
    the first. 1 / length for a right answer, as much off for a wrong one; the episode terminates with the last
    answer, after 2 · length steps. `reset(options={"symbols": […]})` fixes the symbols.

    The best return is 1. Every memoryless policy expects 2 / n - 1, as random actions do: all answers are given on
    one and the same observation, so that each is right with probability 1 / n.

    After POPGym, Morad et al. (2023), https://arxiv.org/abs/2303.01859, whose order is also backward. There the
    symbols are suits of one or more shuffled decks of 52 cards, the last card is the sign to answer, and symbol 0
    stands beside the sign.

    Args:
        length: symbols to remember, at least 1; 52 is POPGym's easy size.
        symbols: n, at least 2.
        order: of the answers, `backward` or `forward`, from the first symbol to the last.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: an argument is out of these ranges, or `options` names symbols that do not fit.
    """

    def __init__(
        self, *, length: int = 8, symbols: int = 4, order: Order = "backward", render_mode: str | None = None
    ) -> None:
        if length < 1:
            raise UsageError(f"length is {length}, there must be at least one symbol to remember")
        if order not in ("backward", "forward"):
            raise UsageError(f"order is {order!r}, allowed: 'backward', 'forward'")
        super().__init__(length, symbols, render_mode)
        self.order = order
        self.observation_space = spaces.Discrete(symbols + 1)

    def step(self, action: Any) -> tuple[int, float, bool, bool, dict[str, Any]]:
        """The next symbol, or the next answer."""
        assert self.action_space.contains(action), f"{action!r} ({type(action)}) invalid"
        answered, reward = self._steps - self.length, 0.0
        if answered >= 0:
            reward = (1.0 if action == self.sequence[self._asked(answered)] else -1.0) / self.length
        self._steps += 1
        seen = self.sequence[self._steps] if self._steps < self.length else self.symbols
        return seen, reward, answered == self.length - 1, False, {}

    def picture(self) -> Picture:
        """The symbols side by side, the agent on the one in sight; other cells when answers are due."""
        answered = self._steps - self.length
        if answered < 0:
            seen = self.sequence[self._steps]
            return Picture(("." * self.symbols,), agent=(0, seen), caption=f"watch: {seen}")
        due = f"answer {answered + 1}: {self.sequence[self._asked(answered)]}" if answered < self.length else "the end"
        return Picture(("?" * self.symbols,), {"?": _ASKED}, caption=due)

    def _asked(self, answered: int) -> int:
        """Place of the symbol that is asked for after so many answers."""
        return answered if self.order == "forward" else self.length - 1 - answered


_ASKED: Colour = (240, 226, 170)


def _recall_returns(symbols: int) -> KnownReturns:
    """Of a task that pays 1 in all for right answers and -1 for wrong ones."""
    chance = 2.0 / symbols - 1.0
    told = "All answers right pay 1 in all; without memory an answer is right with probability 1 / symbols."
    return KnownReturns(best=1.0, memoryless=chance, random=chance, derivation=told)


def _checked_count(symbols: int) -> int:
    if symbols < 2:
        raise UsageError(f"symbols is {symbols}, with fewer than 2 there is nothing to remember")
    return symbols


def _checked_sequence(drawn: Iterable[int], length: int, symbols: int) -> list[int]:
    sequence = [int(symbol) for symbol in drawn]
    if len(sequence) != length or not all(0 <= symbol < symbols for symbol in sequence):
        raise UsageError(f"the symbols are {sequence}, there must be {length} of 0 … {symbols - 1}")
    return sequence
