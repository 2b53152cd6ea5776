"""Action masks, from info or observation, reach the step of every kind of vector environment."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rlkit.envs import check
from rlkit.envs.autoreset import TrueTransitions
from rlkit.envs.check import check_env
from rlkit.envs.make import make
from rlkit.envs.masks import MaskReader, WrongMask, first_mask, sampled
from rlkit.envs.normalize import NormalizeObservation
from rlkit.envs.wrapper_names import resolve_wrapper
from rlkit.errors import EnvironmentFault
from rlkit.seeding import row_seed

GIVES = ["info", "observation", "sometimes"]


def allowed_actions(mask, rng):
    """One allowed action of each row, from 1 as the samples have them."""
    return 1 + np.array([rng.choice(np.flatnonzero(row)) for row in mask])


def hand_stepped(env, seed, actions):
    """What one environment says: masks to act by, masks of the true successors, and the ends."""

    def given(obs, info):
        mask = obs["action_mask"] if isinstance(obs, dict) else info.get("action_mask")
        return [True] * 4 if mask is None else mask.astype(bool).tolist()

    masks, next_masks = [given(*env.reset(seed=seed))], []
    for action in actions:
        obs, _, terminated, truncated, info = env.step(int(action))
        next_masks.append([True] * 4 if terminated else given(obs, info))
        masks.append(given(*env.reset()) if terminated or truncated else next_masks[-1])
    return masks, next_masks


def walked(envs, steps, seed=5):
    """Masks before every step and after it, [T + 1, N, A] and [T, N, A], and the actions [T, N]."""
    rng = np.random.default_rng(0)
    obs, infos = envs.reset(seed)
    masks, next_masks, taken = [first_mask(envs, obs, infos)], [], []
    for _ in range(steps):
        mask = np.ones((envs.num_envs, 4), bool) if masks[-1] is None else masks[-1]
        taken.append(allowed_actions(mask, rng))
        step = envs.step(taken[-1])
        masks.append(step.action_mask)
        next_masks.append(step.next_action_mask)
        if step.obs is step.next_obs:
            assert step.action_mask is step.next_action_mask or np.array_equal(step.action_mask, step.next_action_mask)
    return masks, next_masks, np.array(taken)


def assert_masks_are_those_of_hand_stepped(envs, env_class, steps=40):
    masks, next_masks, taken = walked(envs, steps)
    assert all(mask is None or (mask.dtype == np.bool_ and mask.shape == (envs.num_envs, 4)) for mask in masks)
    filled = [[np.ones((envs.num_envs, 4), bool) if m is None else m for m in each] for each in (masks, next_masks)]
    for row in range(envs.num_envs):
        expected = hand_stepped(env_class(), row_seed(5, row), taken[:, row])
        assert [mask[row].tolist() for mask in filled[0]] == expected[0]
        assert [mask[row].tolist() for mask in filled[1]] == expected[1]
    envs.close()


@pytest.mark.parametrize("gives", GIVES)
@pytest.mark.parametrize("num_envs", [1, 3])
def test_serial_environments_tell_what_each_one_allows(samples, gives, num_envs):
    build = partial(samples.Masked, gives)
    assert_masks_are_those_of_hand_stepped(make(build, num_envs), build)


@pytest.mark.parametrize("gives", GIVES)
def test_processes_tell_the_same(samples, sample_ref, gives):
    envs = make(sample_ref("Masked"), 2, vector="process", env_kwargs={"gives": gives})
    assert_masks_are_those_of_hand_stepped(envs, partial(samples.Masked, gives))


@pytest.mark.parametrize("gives", GIVES)
@pytest.mark.parametrize("mode", list(AutoresetMode))
def test_gymnasiums_vector_environments_tell_the_same(samples, gives, mode):
    build = partial(samples.Masked, gives)
    assert_masks_are_those_of_hand_stepped(TrueTransitions(SyncVectorEnv([build] * 3, autoreset_mode=mode)), build)


def test_environments_without_masks_have_none(samples):
    envs = make(samples.Flat, 2)
    assert first_mask(envs, *envs.reset(0)) is None
    for _ in range(20):
        step = envs.step(np.zeros((2, 1), np.float32))
        assert step.action_mask is None
        assert step.next_action_mask is None


def test_a_step_in_which_only_one_row_has_a_mask_allows_everything_to_the_other():
    reader = MaskReader(spaces.Box(0, 1, (2,)), spaces.Discrete(3))
    mask = reader.read(np.zeros((2, 2)), [{}, {"action_mask": np.array([0, 1, 0], np.int8)}])
    assert mask.tolist() == [[True] * 3, [False, True, False]]


def test_the_mask_of_the_info_is_preferred_and_other_actions_have_none():
    space = spaces.Dict({"action_mask": spaces.MultiBinary(2)})
    obs, infos = {"action_mask": np.array([[1, 0]])}, [{"action_mask": [0, 1]}]
    assert MaskReader(space, spaces.Discrete(2)).read(obs, infos).tolist() == [[False, True]]
    assert MaskReader(space, spaces.Discrete(2)).read(obs, [{}]).tolist() == [[True, False]]
    assert MaskReader(space, spaces.Box(0, 1, (2,))).read(obs, infos) is None


def test_masks_of_two_components_lie_one_after_the_other(samples):
    envs = make(samples.MaskedParts, 2)
    mask, rng = first_mask(envs, *envs.reset(0)), np.random.default_rng(0)
    for _ in range(20):
        assert mask.shape == (2, 5)
        assert mask.sum(axis=1).tolist() == [3, 3]
        chosen = [[rng.choice(np.flatnonzero(row[:2])), rng.choice(np.flatnonzero(row[2:]))] for row in mask]
        mask = envs.step(np.array(chosen)).action_mask


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        ("nothing", "environment 1 failed in step 2: its action mask forbids every action"),
        ("short", r"environment 1 failed in reset: its action mask has shape \(3,\), its actions need \(4,\)"),
        ("twos", "environment 1 failed in reset: its action mask is .* 0 and 1 only"),
    ],
)
def test_a_mask_that_cannot_be_followed_names_environment_and_step(samples, gives, words):
    builds = iter([samples.Masked, partial(samples.Masked, gives)])
    with pytest.raises(EnvironmentFault, match=words):
        walked(make(lambda: next(builds)(), 2), 5)


def test_such_a_mask_is_named_by_a_process_and_by_gymnasiums_environments_too(samples, sample_ref):
    process = make(sample_ref("Masked"), 2, vector="process", env_kwargs={"gives": "nothing"})
    foreign = TrueTransitions(SyncVectorEnv([partial(samples.Masked, "nothing")] * 2))
    for envs in (process, foreign):
        with pytest.raises(EnvironmentFault, match="environment 0 failed in step 2: its action mask forbids"):
            walked(envs, 5)
        envs.close()


def test_a_mask_that_fails_in_a_later_reset_says_so(samples):
    class Later(samples.Masked):
        def reset(self, *, seed=None, options=None):
            obs, info = super().reset(seed=seed, options=options)
            return obs, info if seed is not None else {"action_mask": np.zeros(4)}

    with pytest.raises(EnvironmentFault, match="environment 0 failed in reset: its action mask forbids every"):
        walked(make(Later), 10)


def test_a_component_without_choice_is_named():
    reader = MaskReader(spaces.Discrete(2), spaces.MultiDiscrete([2, 3]))
    with pytest.raises(WrongMask, match="every action of component 1"):
        reader.read_one(0, {"action_mask": [0, 1, 0, 0, 0]})
    with pytest.raises(WrongMask, match=r"shape \(0,\)"):
        reader.read_one(0, {"action_mask": ()})


def test_normalising_leaves_the_mask_of_an_observation_alone():
    class FloatMask(gym.Env):
        observation_space = spaces.Dict(
            {"place": spaces.Box(-9, 9, (1,), np.float32), "action_mask": spaces.Box(0, 1, (2,), np.float32)}
        )
        action_space = spaces.Discrete(2)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self._obs(), {}

        def step(self, action):
            return self._obs(), 0.0, False, False, {}

        def _obs(self):
            place = self.np_random.normal(size=1).astype(np.float32)
            return {"place": place, "action_mask": np.array([0, 1], np.float32)}

    envs = NormalizeObservation(make(FloatMask))
    obs, infos = envs.reset(0)
    for _ in range(3):
        assert first_mask(envs, obs, infos).tolist() == [[False, True]]
        obs = envs.step(np.ones(1, np.int64)).obs
    assert envs.single_observation_space["action_mask"] == FloatMask.observation_space["action_mask"]


def test_a_chosen_start_has_no_mask_of_the_state_that_was_drawn():
    envs = make("Taxi-v4", wrappers=[resolve_wrapper("time-limit:max_episode_steps=1")])
    mask = first_mask(envs, *envs.reset(0))
    assert 0 < mask.sum() < 6
    assert envs.step(np.array([0]), [7]).action_mask is None
    assert not envs.step(np.array([0])).action_mask.all()


@pytest.mark.parametrize("nvec", [[2, 3], [[2, 3], [4, 2]]])
def test_random_actions_of_several_components_heed_the_mask(nvec):
    space = spaces.MultiDiscrete(nvec, seed=0)
    size = int(space.nvec.sum())
    for _ in range(20):
        action = sampled(space, None)
        chosen = np.zeros(size, bool)
        chosen[np.cumsum([0, *space.nvec.ravel()[:-1]]) + action.ravel()] = True
        assert (sampled(space, chosen) == action).all(), "only one action is allowed"


@pytest.mark.parametrize(
    ("ref", "level", "words"),
    [
        ("Taxi-v4", "info", "gives action masks of 6 entries"),
        ("Masked", "info", "gives action masks of 4 entries"),
        ("MaskedParts", "info", "gives action masks of 5 entries"),
        ("Masked:sometimes", "info", "where there is none, everything counts as allowed"),
        (
            "Masked:nothing",
            "error",
            "forbids every action; end the episode where nothing is left (first seen in step 2",
        ),
        ("Masked:short", "error", "has shape (3,), its actions need (4,)"),
    ],
)
def test_the_check_looks_at_masks(samples, sample_ref, monkeypatch, ref, level, words):
    monkeypatch.setattr(check, "_SPEED_SECONDS", 0.01)
    name, _, gives = ref.partition(":")
    findings = check_env(partial(samples.Masked, gives) if gives else name if "-v" in name else sample_ref(name))
    assert any(finding.level == level and words in finding.text for finding in findings), findings
    if level == "info":
        assert not [finding for finding in findings if finding.level != "info"]


def test_the_check_says_that_masks_of_a_box_mean_nothing(samples, monkeypatch):
    class Boxed(samples.Flat):
        def reset(self, *, seed=None, options=None):
            obs, _ = super().reset(seed=seed, options=options)
            return obs, {"action_mask": np.ones(3)}

    monkeypatch.setattr(check, "_SPEED_SECONDS", 0.01)
    assert any("only Discrete and MultiDiscrete actions have masks" in finding.text for finding in check_env(Boxed))
