"""Environments that need memory: a policy with memory has the best return, and none without it passes the bound."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check

from rlkit.envs.check import check_env
from rlkit.envs.key_to_door import APPLE, FIRST_COLOUR, KeyToDoor
from rlkit.envs.known_returns import KNOWN_RETURNS
from rlkit.envs.make import EnvFactory, make, make_single
from rlkit.envs.nearest_match import NearestMatch
from rlkit.envs.registration import ENVS
from rlkit.envs.restore import explain_restore
from rlkit.envs.symbol_recall import Autoencode, RepeatPrevious
from rlkit.envs.t_maze import TMaze
from rlkit.errors import UsageError

OURS = sorted(env_id for env_id in KNOWN_RETURNS if "NoVelocity" not in env_id)
NO_VELOCITY = {"rlkit/CartPoleNoVelocity-v0": "CartPole-v1", "rlkit/PendulumNoVelocity-v0": "Pendulum-v1"}
SIZES: dict[str, dict[str, Any]] = {
    "rlkit/TMaze-v0": {"length": 3},
    "rlkit/RepeatPrevious-v0": {"k": 2, "length": 9, "symbols": 3},
    "rlkit/Autoencode-v0": {"length": 5, "symbols": 2, "order": "forward"},
    "rlkit/KeyToDoor-v0": {"width": 4, "colours": 3, "apple_steps": 10},
    "rlkit/NearestMatch-v0": {"max_objects": 4, "colours": 5},
}
"""Other than the default arguments."""

UP, RIGHT, DOWN, LEFT = range(4)
Policy = Callable[[Any, Any], tuple[Any, Any]]
"""Observation and what is remembered (None at first) -> action and what to remember."""


# Policies with memory that have the best return.


def turn_as_the_cue_said(seen: int, cue: int | None) -> tuple[int, int]:
    cue = seen if cue is None else cue
    return ((UP, DOWN)[cue] if seen == 3 else RIGHT), cue


def repeat(k: int) -> Policy:
    def policy(seen: int, past: tuple[int, ...] | None) -> tuple[int, tuple[int, ...]]:
        past = (*(past or ()), seen)
        return past[-1 - k] if len(past) > k else 0, past

    return policy


def recite(symbols: int, order: str) -> Policy:
    def policy(seen: int, left: tuple[int, ...] | None) -> tuple[int, tuple[int, ...]]:
        left = left or ()
        if seen < symbols:
            return 0, (*left, seen)
        return (left[-1], left[:-1]) if order == "backward" else (left[0], left[1:])

    return policy


def use_what_is_wanted(seen: Any, colour: int | None) -> tuple[int, int | None]:
    """Take key and apples, from the left, and the door of the key's colour."""
    room, position, cells = seen[0], seen[1], seen[2:]
    things = np.flatnonzero(cells)
    if room == 0 and len(things):
        colour = int(cells[things[0]])
    targets = np.flatnonzero(cells == colour) if room == 2 else things
    if not len(targets):
        return 0, colour
    left = int(targets.min())
    return (2 if cells[position] and position in targets else 0 if left < position else 1), colour


def point(seen: Any, _: Any) -> tuple[int, None]:
    """To the nearest of the own colour, found from the observation alone by the middle of each eighth."""
    offsets, colours = seen["entities"][:, :2].astype(np.float64), seen["entities"][:, 2:]
    fits = (seen["mask"] == 1) & (colours * seen["own"][2:]).any(1)
    nearest = np.where(fits, np.hypot(*offsets.T), np.inf).argmin()
    middles = np.arange(8) * np.pi / 4
    return int((offsets[nearest] @ [np.cos(middles), np.sin(middles)]).argmax()), None


def best_policy(env: Any) -> Policy:
    if isinstance(env, RepeatPrevious):
        return repeat(env.k)
    if isinstance(env, Autoencode):
        return recite(env.symbols, env.order)
    if isinstance(env, TMaze):
        return turn_as_the_cue_said
    return use_what_is_wanted if isinstance(env, KeyToDoor) else point


def episode_return(env: Any, policy: Policy, seed: int | None = None, options: dict[str, Any] | None = None) -> float:
    seen, _ = env.reset(seed=seed, options=options)
    memory, total = None, 0.0
    while True:
        action, memory = policy(seen, memory)
        seen, reward, terminated, truncated, _ = env.step(action)
        total += reward
        if terminated or truncated:
            return total


@pytest.mark.parametrize("arguments", ["default", "other"])
@pytest.mark.parametrize("env_id", OURS)
def test_a_policy_with_memory_has_the_best_return_in_every_episode(env_id: str, arguments: str) -> None:
    env: Any = make_single(env_id, env_kwargs=SIZES[env_id] if arguments == "other" else {}).unwrapped
    best = env.known_returns.best
    for seed in range(100):
        assert episode_return(env, best_policy(env), seed) == pytest.approx(best, abs=1e-12)


# No memoryless policy passes the bound: all deterministic ones, over all that can be drawn, on small sizes.


class Draws:
    """In the place of a numpy Generator: answers of `integers` so chosen that every outcome comes up once.

    `outcomes` goes through them; `probability` is that of the one that just came up.
    """

    def __init__(self) -> None:
        self._script: list[int] = []
        self._choices: list[int] = []
        self._next = 0

    def integers(self, high: int, size: int | None = None) -> Any:
        if size is not None:
            return [self.integers(high) for _ in range(size)]
        if self._next == len(self._script):
            self._script.append(0)
            self._choices.append(high)
        self._next += 1
        return self._script[self._next - 1]

    def outcomes(self) -> Iterator[None]:
        while True:
            self._next = 0
            yield
            del self._script[self._next :], self._choices[self._next :]
            while self._script and self._script[-1] == self._choices[-1] - 1:
                self._script.pop()
                self._choices.pop()
            if not self._script:
                return
            self._script[-1] += 1

    @property
    def probability(self) -> float:
        return float(1.0 / np.prod(self._choices[: self._next]))


def expected_return(env: Any, policy: Policy) -> float:
    """Exactly, for a deterministic policy."""
    draws, total, certainty = Draws(), 0.0, 0.0
    env.reset(seed=0)
    env.np_random = draws
    for _ in draws.outcomes():
        one = episode_return(env, policy)
        total, certainty = total + draws.probability * one, certainty + draws.probability
    assert certainty == pytest.approx(1.0, abs=1e-12)
    return total


def memoryless_policies(observations: int, actions: int) -> Iterator[Policy]:
    """Every map from observation to action."""
    for table in itertools.product(range(actions), repeat=observations):
        yield lambda seen, _, table=table: (table[seen], None)


@pytest.mark.parametrize(
    "env",
    [
        RepeatPrevious(k=1, length=3, symbols=2),
        RepeatPrevious(k=2, length=4, symbols=3),
        Autoencode(length=2, symbols=2),
        Autoencode(length=2, symbols=3, order="forward"),
    ],
    ids=lambda env: f"{type(env).__name__}-{env.symbols}",
)
def test_all_memoryless_policies_recall_at_chance(env: Any) -> None:
    # Actions do not change what is seen later, so that a stochastic policy's return is an average of these.
    known = env.known_returns
    values = [expected_return(env, policy) for policy in memoryless_policies(env.observation_space.n, env.symbols)]
    np.testing.assert_allclose(values, known.memoryless, atol=1e-12)
    assert (known.memoryless, known.random) == (2 / env.symbols - 1, 2 / env.symbols - 1)
    assert expected_return(env, best_policy(env)) == pytest.approx(known.best)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_best_deterministic_policy_without_memory_finds_one_door_of_the_t_maze_in_two(length: int) -> None:
    env = TMaze(length=length)
    values = [expected_return(env, policy) for policy in memoryless_policies(4, 4)]
    assert max(values) == env.known_returns.memoryless == 0.5
    assert expected_return(env, turn_as_the_cue_said) == env.known_returns.best == 1.0


def t_maze_return(length: int, policies: Any) -> Any:
    """Expected returns [P] of stochastic memoryless policies [P, observations, actions], step by step."""
    env, total = TMaze(length=length), np.zeros(len(policies))
    for cue in (0, 1):
        chance = np.zeros((len(policies), length + 2))  # each position, and the start with the cue in sight
        chance[:, -1] = 0.5
        for _ in range(env.max_steps):
            later = np.zeros_like(chance)
            for place, action in itertools.product(range(length + 2), range(4)):
                env.reset(seed=0, options={"cue": cue})
                env.position = 0 if place == length + 1 else place
                seen = cue if place == length + 1 else 3 if place == length else 2
                _, reward, terminated, _, _ = env.step(action)
                weight = chance[:, place] * policies[:, seen, action]
                total += weight * reward
                if not terminated:
                    later[:, env.position] += weight
            chance = later
    return total


@pytest.mark.parametrize("length", [1, 4])
def test_no_stochastic_policy_without_memory_does_better_in_the_t_maze(length: int) -> None:
    policies = np.random.default_rng(0).dirichlet(np.full(4, 0.1), (3000, 4))
    values = t_maze_return(length, policies)
    assert values.max() <= 0.5 + 1e-12
    assert values.max() > 0.4, "the bound is near"
    even = t_maze_return(length, np.full((1, 4, 4), 0.25))
    assert even[0] == pytest.approx(TMaze(length=length).known_returns.random, abs=1e-12)


ROOMS: dict[str, Any] = {"width": 2, "colours": 2, "apple_steps": 4, "apple_reward": 0.25, "door_reward": 2.0}


def test_without_memory_one_door_in_as_many_as_there_are_colours_is_right() -> None:
    """Every deterministic policy in the last room, with the best and worse ones in the rooms before."""
    env = KeyToDoor(**ROOMS)
    known = env.known_returns
    assert (known.best, known.memoryless) == (2.5, 1.5)
    seen_last = [(cell, layout) for cell in (0, 1) for layout in ((2, 3), (3, 2))]
    takers = [lambda seen, wanted=wanted: seen[0] == 1 or wanted in seen[2:] for wanted in (2, 3)]
    takers += [lambda seen: True, lambda seen: seen[0] == 1, lambda seen: False]
    values = []
    for takes, table in itertools.product(takers, itertools.product(range(3), repeat=4)):
        last = dict(zip(seen_last, table, strict=True))

        def policy(seen: Any, _: Any, takes: Any = takes, last: Any = last) -> tuple[int, None]:
            if seen[0] == 2:
                return last[seen[1], (seen[2], seen[3])], None
            return (use_what_is_wanted(seen, None)[0] if takes(seen) else 0), None

        values.append(expected_return(env, policy))
    assert max(values) == pytest.approx(known.memoryless)
    assert expected_return(env, use_what_is_wanted) == pytest.approx(known.best)


def test_one_key_and_one_door_need_no_memory() -> None:
    env = KeyToDoor(colours=1)
    assert env.known_returns.memoryless == env.known_returns.best

    def forgetful(seen: Any, _: Any) -> tuple[int, None]:
        return use_what_is_wanted(seen, FIRST_COLOUR)[0], None

    for seed in range(50):
        assert episode_return(env, forgetful, seed) == pytest.approx(env.known_returns.best)


# What each does, step by step.


def test_a_t_maze_by_hand() -> None:
    env = TMaze(length=2)
    assert env.reset(seed=0, options={"cue": 1}) == (1, {})
    assert env.step(UP)[:4] == (2, -0.5, False, False), "the cue is seen once"
    assert env.step(LEFT)[:4] == (2, -0.5, False, False)
    assert env.step(RIGHT)[:4] == (2, 0.0, False, False)
    assert env.step(RIGHT)[:4] == (3, 0.0, False, False)
    assert env.step(RIGHT)[:4] == (3, -0.5, False, False)
    assert env.step(LEFT)[:4] == (2, -0.5, False, False)
    env.step(RIGHT)
    assert env.step(DOWN)[:4] == (3, 1.0, True, False)
    env.reset(options={"cue": 0})
    env.step(RIGHT)
    env.step(RIGHT)
    assert env.step(DOWN)[:4] == (3, 0.0, True, False)
    env.reset()
    assert [env.step(LEFT)[3] for _ in range(12)] == [False] * 11 + [True]


def test_symbols_are_asked_for_in_their_order() -> None:
    env = RepeatPrevious(k=2, length=4, symbols=3)
    assert env.reset(seed=0, options={"symbols": [2, 0, 1, 1]}) == (2, {})
    steps = [env.step(action)[:3] for action in (1, 1, 2, 2)]
    assert steps == [(0, 0.0, False), (1, 0.0, False), (1, 0.5, False), (1, -0.5, True)]
    for order, answers in (("backward", (1, 0, 2)), ("forward", (2, 0, 1))):
        recall = Autoencode(length=3, symbols=3, order=order)  # type: ignore[arg-type]
        assert recall.reset(seed=0, options={"symbols": [2, 0, 1]}) == (2, {})
        assert [recall.step(0)[:3] for _ in range(3)] == [(0, 0.0, False), (1, 0.0, False), (3, 0.0, False)]
        answered = [recall.step(answer)[:3] for answer in answers]
        assert answered == [(3, 1 / 3, False), (3, 1 / 3, False), (3, 1 / 3, True)]
        recall.reset(options={"symbols": [1, 1, 1]})
        assert sum(recall.step(0)[1] for _ in range(6)) == -1.0


def test_rooms_follow_each_other_after_their_steps() -> None:
    env = KeyToDoor(width=3, colours=2, apple_steps=8)
    rooms, apples = [int(env.reset(seed=1)[0][0])], []
    while True:
        seen, _, terminated, truncated, _ = env.step(0)
        rooms.append(int(seen[0]))
        apples.append(int((seen[2:] == APPLE).sum()))
        if terminated:
            break
    assert not truncated
    assert rooms == [0] * 3 + [1] * 8 + [2] * 4
    assert apples == [0] * 2 + [3] * 8 + [0] * 4


def test_what_was_taken_is_gone_and_only_the_right_door_pays() -> None:
    env = KeyToDoor(width=2, colours=2, apple_steps=4)
    paid = {True: 0, False: 0}
    for seed in range(40):
        seen, _ = env.reset(seed=seed)
        colour = None
        while seen[0] < 2:
            action, colour = use_what_is_wanted(seen, colour)
            place = seen[1]
            seen, reward, _, _, _ = env.step(action)
            if action == 2 and seen[0] == 0:
                assert (seen[2 + place], reward) == (0, 0.0)
        right = bool(seen[2 + seen[1]] == colour)
        _, reward, terminated, _, _ = env.step(2)
        assert (reward, terminated) == (float(right), True)
        paid[right] += 1
    assert min(paid.values()) > 5


def test_a_door_without_a_key_pays_nothing() -> None:
    env = KeyToDoor(width=2, colours=1, apple_steps=4)
    for seed in range(10):
        seen, _ = env.reset(seed=seed)
        while seen[0] < 2:
            seen = env.step(0)[0]
        while True:
            action, _ = use_what_is_wanted(seen, FIRST_COLOUR)
            seen, reward, terminated, _, _ = env.step(action)
            if terminated:
                break
        assert (action, reward) == (2, 0.0)


@pytest.mark.parametrize("env_id", NO_VELOCITY)
def test_without_velocity_the_task_is_gymnasiums(env_id: str) -> None:
    env, whole = make_single(env_id), gym.make(NO_VELOCITY[env_id])
    kept = [0, 2] if "CartPole" in env_id else [0, 1]
    assert env.spec is not None
    assert whole.spec is not None
    assert env.spec.max_episode_steps == whole.spec.max_episode_steps
    for seed in range(3):
        seen, everything = env.reset(seed=seed)[0], whole.reset(seed=seed)[0]
        ended = False
        while not ended:
            np.testing.assert_array_equal(seen, everything[kept])
            action = env.action_space.sample()
            seen, *rest = env.step(action)
            everything, *others = whole.step(action)
            assert rest[:3] == others[:3]
            ended = rest[1] or rest[2]
    again = gym.make(env.spec)
    assert again.observation_space == env.observation_space
    assert again.observation_space.shape == (2,)


def test_a_pole_can_be_held_by_a_policy_that_infers_the_velocities() -> None:
    env = make_single("rlkit/CartPoleNoVelocity-v0")

    def hold(seen: Any, last: Any) -> tuple[int, Any]:
        moved = np.zeros(2) if last is None else (seen - last) / 0.02
        return int(seen @ [0.5, 10.0] + moved @ [1.0, 2.0] > 0), seen

    assert [episode_return(env, hold, seed) for seed in range(10)] == [KNOWN_RETURNS[env.spec.id].best] * 10  # type: ignore[union-attr]


# NearestMatch: entities in no order.


def test_the_order_of_the_objects_means_nothing() -> None:
    env, rng = NearestMatch(), np.random.default_rng(0)
    for seed in range(200):
        seen, _ = env.reset(seed=seed)
        order = rng.permutation(env.max_objects)
        shuffled = {**seen, "entities": seen["entities"][order], "mask": seen["mask"][order]}
        assert point(shuffled, None) == point(seen, None)


def test_objects_vanish_one_by_one_and_one_is_always_seen() -> None:
    env = NearestMatch(max_objects=6)
    counts = set()
    for seed in range(50):
        seen, _ = env.reset(seed=seed)
        left, terminated = int(seen["mask"].sum()), False
        counts.add(left)
        for step in range(3):
            before = seen
            assert seen["mask"].tolist() == [1] * left + [0] * (6 - left)
            assert not seen["entities"][left:].any()
            assert seen["entities"][:left, 2:].sum(1).tolist() == [1.0] * left
            assert (seen["entities"][:left, 2:] * seen["own"][2:]).any(), "one has the agent's colour"
            seen, reward, terminated, _, _ = env.step(env.action_space.sample())
            assert reward in (0.0, 1.0 / 3)
            assert terminated == (step == 2)
            left -= 1
        assert all((seen[key] == before[key]).all() for key in seen), "the last observation is that of the step before"
    assert counts == {3, 4, 5, 6}


def test_the_agent_goes_to_the_object_it_was_asked_for() -> None:
    env = NearestMatch(max_objects=8)
    for seed in range(50):
        seen, _ = env.reset(seed=seed)
        offsets, fits = seen["entities"][:, :2], (seen["entities"][:, 2:] * seen["own"][2:]).any(1)
        target = np.where(fits, np.hypot(*offsets.T), np.inf).argmin()
        after = env.step(0)[0]
        np.testing.assert_allclose(after["own"][:2], seen["own"][:2] + 2 * offsets[target], atol=1e-6)


def test_random_directions_are_right_once_in_eight() -> None:
    env, rng = NearestMatch(), np.random.default_rng(0)
    values = [episode_return(env, lambda seen, _: (int(rng.integers(8)), None), seed) for seed in range(3000)]
    assert abs(np.mean(values) - env.known_returns.random) < 5 * np.std(values) / np.sqrt(len(values))  # type: ignore[operator]


# The table, and what holds for all.


def test_the_table_tells_what_the_environments_do() -> None:
    for env_id in OURS:
        known, told = KNOWN_RETURNS[env_id], make_single(env_id).unwrapped.known_returns  # type: ignore[attr-defined]
        assert (known.best, known.memoryless, known.derivation) == (told.best, told.memoryless, told.derivation)
        assert known.random == pytest.approx(told.random, abs=1e-6)
    for known in KNOWN_RETURNS.values():
        assert known.derivation
        assert (known.best is None) == (known.best_found is not None)
        assert (known.memoryless is None) == (known.memoryless_found is not None)
    with pytest.raises(TypeError):
        KNOWN_RETURNS["mine"] = KNOWN_RETURNS[OURS[0]]  # type: ignore[index]
    assert set(KNOWN_RETURNS) <= set(ENVS)
    assert {*OURS} == {*SIZES}


@pytest.mark.parametrize("env_id", sorted(KNOWN_RETURNS))
def test_checks_find_nothing_to_complain_of(env_id: str) -> None:
    assert [finding for finding in check_env(env_id) if finding.level != "info"] == []
    probe = explain_restore(EnvFactory(env_id, (), SIZES.get(env_id, {})))
    assert (probe.tier, probe.reason) == ("exact", "")
    if env_id in OURS:
        for arguments in ({}, SIZES[env_id]):
            gymnasium_check(gym.make(env_id, disable_env_checker=True, **arguments).unwrapped)


@pytest.mark.parametrize("env_id", OURS)
def test_the_same_seed_gives_the_same_episodes(env_id: str) -> None:
    def walk(seed: int) -> list[str]:
        envs = make(env_id, 2)
        seen = [repr(envs.reset(seed)[0])]
        for step in range(60):
            result = envs.step(np.full(2, step % 2))
            seen.append(repr((result.obs, result.reward)))
        return seen

    assert walk(3) == walk(3)
    assert walk(3) != walk(4)


@pytest.mark.parametrize("env_id", OURS)
def test_they_draw_themselves(env_id: str) -> None:
    pixels = make_single(env_id, env_kwargs={"render_mode": "rgb_array"})
    text = make_single(env_id, env_kwargs={"render_mode": "ansi"})
    for env in (pixels, text):
        env.reset(seed=0)
    pictures, texts = [], []
    for action in [1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]:
        pictures.append(pixels.render())
        texts.append(str(text.render()))
        for env in (pixels, text):
            if env.step(action)[2]:
                env.reset()
    assert all(picture.dtype == np.uint8 and picture.shape[2] == 3 for picture in pictures)  # type: ignore[union-attr]
    assert len(set(texts)) > 1
    assert make_single(env_id).unwrapped.render() is None


def test_pixels_show_nothing_that_is_to_be_remembered() -> None:
    maze = TMaze(length=2, render_mode="rgb_array")
    first, later = [], []
    for cue in (0, 1):
        maze.reset(seed=0, options={"cue": cue})
        first.append(maze.render())
        maze.step(RIGHT)
        later.append(maze.render())
    assert (first[0] != first[1]).any()  # type: ignore[union-attr]
    np.testing.assert_array_equal(*later)
    symbols = ([0, 1, 2, 3], [3, 2, 2, 3])
    for env in (RepeatPrevious(k=2, length=4, render_mode="rgb_array"), Autoencode(length=4, render_mode="rgb_array")):
        pictures = []
        for sequence in symbols:
            env.reset(seed=0, options={"symbols": sequence})
            for _ in range(2 if isinstance(env, RepeatPrevious) else 4):
                env.step(0)
            pictures.append(env.render())
        np.testing.assert_array_equal(*pictures)


WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("TMaze", {"length": 0}, "length is 0"),
    ("RepeatPrevious", {"k": 0}, "k is 0"),
    ("RepeatPrevious", {"k": 52}, "below length"),
    ("RepeatPrevious", {"symbols": 1}, "symbols is 1"),
    ("Autoencode", {"length": 0}, "length is 0"),
    ("Autoencode", {"symbols": 1}, "symbols is 1"),
    ("Autoencode", {"order": "sideways"}, "allowed: 'backward', 'forward'"),
    ("KeyToDoor", {"width": 1, "colours": 1}, "width is 1"),
    ("KeyToDoor", {"colours": 0}, "colours is 0"),
    ("KeyToDoor", {"colours": 6}, "colours 1 … width"),
    ("KeyToDoor", {"apple_steps": 12}, "up to 13"),
    ("KeyToDoor", {"apple_reward": -0.1}, "apple_reward is -0.1"),
    ("KeyToDoor", {"door_reward": float("nan")}, "door_reward is nan"),
    ("NearestMatch", {"max_objects": 1}, "max_objects is 1"),
    ("NearestMatch", {"colours": 0}, "colours is 0"),
]


@pytest.mark.parametrize(("name", "arguments", "told"), WRONG)
def test_arguments_that_make_no_sense_are_refused(name: str, arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        make_single(f"rlkit/{name}-v0", env_kwargs=arguments)


@pytest.mark.parametrize("env_id", OURS)
def test_unknown_render_modes_and_actions_are_refused(env_id: str) -> None:
    env = make_single(env_id)
    with pytest.raises(UsageError, match="render_mode is 'human'"):
        type(env.unwrapped)(render_mode="human")  # type: ignore[call-arg]
    env.reset(seed=0)
    for action in (9, -1, 0.5):
        with pytest.raises(AssertionError, match="invalid"):
            env.step(action)


def test_unknown_beginnings_are_refused() -> None:
    with pytest.raises(UsageError, match="cue is 2"):
        TMaze().reset(seed=0, options={"cue": 2})
    for symbols in ([0], [0, 1, 2, 4]):
        with pytest.raises(UsageError, match=r"4 of 0 … 3"):
            RepeatPrevious(length=4, k=1).reset(seed=0, options={"symbols": symbols})
