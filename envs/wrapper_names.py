"""Wrappers by name, for `--wrap NAME[:k=v,…]` and `rlkit list wrappers`. Imports no wrapper before it is used."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from rlkit.errors import MissingExtraError, RlkitError, UnknownNameError, UsageError

Level = Literal["env", "vector"]


class WrapperEntry(NamedTuple):
    """A line of the table: where the class or function is, what it wraps, and what it does."""

    path: str
    level: Level
    summary: str


_OURS = "rlkit.envs.wrappers"
_NORMALIZE = "rlkit.envs.normalize"
_GYM = "gymnasium.wrappers"

WRAPPERS: dict[str, WrapperEntry] = {
    "rescale-action": WrapperEntry(f"{_OURS}:RescaleAction", "env", "actions in [-1, 1], bounds mapped exactly"),
    "clip-action": WrapperEntry(f"{_OURS}:ClipAction", "env", "clip actions to the bounds, keep the action space"),
    "discretize": WrapperEntry(
        f"{_OURS}:Discretize", "env", "a Box of observations as bins in each dimension, for tables"
    ),
    "hide-components": WrapperEntry(
        f"{_OURS}:HideComponents", "env", "leave out some numbers of a vector, such as velocities"
    ),
    "encode-observation": WrapperEntry(
        "rlkit.run_encoder:encode_observation", "env", "the features of a trained run's encoder, frozen"
    ),
    "detect-events": WrapperEntry(
        "rlkit.detected:detect_events",
        "env",
        "what a trained detector tells, as info, observation or reward",
    ),
    "simulator-state": WrapperEntry(
        "rlkit.envs.simulator_state:SimulatorState",
        "env",
        "tell what the simulator knows in info, as labels for probes",
    ),
    "freeway-hits": WrapperEntry(
        "rlkit.envs.freeway_hits:FreewayHits", "env", "tell in info when Freeway's chicken is hit, and when it scores"
    ),
    "babyai-subgoals": WrapperEntry(
        "rlkit.envs.babyai_subgoals:BabyAISubgoals", "env", "tell in info which subgoal BabyAI's bot has"
    ),
    "injected-faults": WrapperEntry(
        "rlkit.envs.injected_faults:InjectedFaults",
        "env",
        "faults of actuator and sensor at random times, told in info",
    ),
    "mask-rows": WrapperEntry("rlkit.envs.mask_rows:MaskRows", "env", "paint rows of pictures black, such as a score"),
    "agent-view": WrapperEntry(
        "rlkit.envs.agent_view:AgentView", "env", "what MiniGrid's agent sees, one-hot or pixels, without the mission"
    ),
    "frame-stack": WrapperEntry(f"{_OURS}:FrameStack", "env", "stack the last n observations; stored once in replay"),
    "normalize-observation": WrapperEntry(
        f"{_NORMALIZE}:NormalizeObservation", "vector", "running mean 0, variance 1; frozen in evaluation"
    ),
    "normalize-reward": WrapperEntry(
        f"{_NORMALIZE}:NormalizeReward", "vector", "divide rewards by the deviation of the discounted return"
    ),
    "add-render-observation": WrapperEntry(f"{_GYM}:AddRenderObservation", "env", "add the rendered picture"),
    "atari-preprocessing": WrapperEntry(
        f"{_GYM}:AtariPreprocessing", "env", "grey 84x84 frames, frame skip, no-op start"
    ),
    "clip-reward": WrapperEntry(f"{_GYM}:ClipReward", "env", "clip rewards to [min_reward, max_reward]"),
    "delay-observation": WrapperEntry(f"{_GYM}:DelayObservation", "env", "observations arrive `delay` steps late"),
    "discretize-action": WrapperEntry(f"{_GYM}:DiscretizeAction", "env", "a Box of actions as a grid of bins"),
    "discretize-observation": WrapperEntry(f"{_GYM}:DiscretizeObservation", "env", "a Box of observations as bins"),
    "dtype-observation": WrapperEntry(f"{_GYM}:DtypeObservation", "env", "cast observations to `dtype`"),
    "filter-observation": WrapperEntry(f"{_GYM}:FilterObservation", "env", "keep some keys of a Dict observation"),
    "flatten-observation": WrapperEntry(f"{_GYM}:FlattenObservation", "env", "any observation as one vector"),
    "grayscale-observation": WrapperEntry(f"{_GYM}:GrayscaleObservation", "env", "RGB pictures as grey ones"),
    "max-and-skip-observation": WrapperEntry(
        f"{_GYM}:MaxAndSkipObservation", "env", "repeat actions, maximum of frames"
    ),
    "record-episode-statistics": WrapperEntry(f"{_GYM}:RecordEpisodeStatistics", "env", "return and length in info"),
    "repeat-action": WrapperEntry(f"{_GYM}:RepeatAction", "env", "repeat every action `num_repeats` times"),
    "rescale-observation": WrapperEntry(f"{_GYM}:RescaleObservation", "env", "observations in [min_obs, max_obs]"),
    "reshape-observation": WrapperEntry(f"{_GYM}:ReshapeObservation", "env", "observations in another `shape`"),
    "resize-observation": WrapperEntry(f"{_GYM}:ResizeObservation", "env", "pictures in another size (extra: atari)"),
    "sticky-action": WrapperEntry(f"{_GYM}:StickyAction", "env", "repeat the last action with a probability"),
    "time-aware-observation": WrapperEntry(f"{_GYM}:TimeAwareObservation", "env", "add the episode's time step"),
    "time-limit": WrapperEntry(f"{_GYM}:TimeLimit", "env", "truncate episodes after max_episode_steps"),
}


# What to do about what gymnasium's wrappers say.
_HINTS = {
    "frame-skipping in the original": "\nLeave out frameskip among --env-args",
    "requires render_mode": "\nAdd --env-args render_mode=rgb_array",
}


@dataclass(frozen=True)
class WrapperSpec:
    """A wrapper with its arguments: call it with what it wraps. Picklable, so that processes can build it."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def level(self) -> Level:
        """`env`: wraps one environment. `vector`: wraps N of them, in the main process."""
        return WRAPPERS[self.name].level

    def __call__(self, env: Any) -> Any:
        """The wrapped environment, or vector environment."""
        try:
            return _wrapper_class(self.name)(env, **self.arguments)
        except RlkitError:
            raise
        except Exception as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> UsageError:
        from gymnasium.error import DependencyNotInstalled

        told = str(error) or type(error).__name__
        if isinstance(error, (ImportError, DependencyNotInstalled)):
            return MissingExtraError("video" if "pygame" in told else "atari", f"the wrapper {self.name}")
        hint = next((hint for phrase, hint in _HINTS.items() if phrase in told), "")
        return UsageError(f"wrapper {self.name} with {dict(self.arguments)}: {told}{hint}")


def resolve_wrapper(text: str) -> WrapperSpec:
    """Wrapper of `name` or `name:key=value,key=value`; values are numbers, true, false, null, [lists] or text.

    >>> resolve_wrapper("time-limit:max_episode_steps=200").arguments
    {'max_episode_steps': 200}

    Raises:
        UnknownNameError: No wrapper has this name.
        UsageError: An argument does not fit; lists the wrapper's parameters.
    """
    name, _, rest = text.partition(":")
    if name not in WRAPPERS:
        raise UnknownNameError("wrapper", name, WRAPPERS, hint="rlkit list wrappers says what each does")
    arguments = _arguments(name, rest)
    signature = inspect.signature(_wrapper_class(name))
    try:
        signature.bind(None, **arguments)
    except TypeError as error:
        raise UsageError(f"wrapper {name}: {error}\n{_usage(name, signature)}") from error
    return WrapperSpec(name, arguments)


def env_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """Arguments of an environment from `key=value` texts, with values as those of wrappers.

    >>> env_arguments(["map_name=8x8", "is_slippery=false"])
    {'map_name': '8x8', 'is_slippery': False}

    Raises:
        UsageError: A text is not key=value.
    """
    arguments: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"--env-args: {text!r} is not key=value, as in --env-args is_slippery=false map_name=8x8")
        arguments[key.strip()] = _value(value.strip())
    return arguments


def _arguments(name: str, text: str) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for part in re.split(r",(?=\s*[A-Za-z_]\w*=)", text) if text else []:
        key, equals, value = part.partition("=")
        if not equals:
            raise UsageError(f"wrapper {name}: {part!r} is not key=value, as in {name}:key=value,key2=value2")
        arguments[key.strip()] = _value(value.strip())
    return arguments


def _value(text: str) -> Any:
    spelled = {"True": True, "False": False, "None": None}
    if text in spelled:
        return spelled[text]
    try:
        value = json.loads(text)
        return tuple(value) if isinstance(value, list) else value
    except ValueError:
        pass
    try:
        return float(text)  # numbers that JSON does not know, such as .5 and inf
    except ValueError:
        return text


def _wrapper_class(name: str) -> Any:
    module, _, attribute = WRAPPERS[name].path.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _usage(name: str, signature: inspect.Signature) -> str:
    parameters = list(signature.parameters.values())[1:]
    if not parameters:
        return f"{name} has no parameters"
    listed = ", ".join(
        parameter.name if parameter.default is inspect.Parameter.empty else f"{parameter.name}={parameter.default!r}"
        for parameter in parameters
    )
    return f"parameters: {listed}"
