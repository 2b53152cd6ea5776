"""Early detection and action start as decisions: wait, or declare a class, along recorded streams with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from rlkit.envs.decision_costs import WAIT, Decision, DecisionCosts, checked_names
from rlkit.envs.event_streams import EventStream, event_columns, first_event
from rlkit.envs.pictures import METADATA, Picture, chain_picture, checked_render_mode, rendered
from rlkit.errors import UsageError
from rlkit.types import Array


class WaitOrDeclare(gym.Env[Any, Any]):
    """Frame after frame of a stream: wait, or declare what has begun.

    An episode is one of the streams, drawn evenly; `reset(options={"stream": 3})` chooses one. The reset shows its
    first frame, each wait the next. The stream's event is what begins in its first frame with any label, and those
    classes are right from there on. Action 0 waits and costs `delay_cost` once the event has begun, else nothing.
    Action k declares the k-th class and terminates: before the event it costs `false_alarm_cost`, after it earns
    `correct_reward` if right and costs `wrong_class_cost` if not. A wait in the last frame terminates too, because
    nothing comes after it, and costs `miss_cost` besides if there was an event. These are the actions and costs of
    `rlkit/ChangeDetection-v0`.

    What comes after a stream's first event is never asked for; `rlkit.envs.event_streams` makes pieces with one
    event each, also from a dataset of episodes: `WaitOrDeclare(*event_streams(EpisodeDataset("folder")))`. Where frames
    are a detector's scores, its threshold is a policy. Policies that need the past see it through the wrapper
    `frame-stack`, or remember (`--agent.core`).

    `info` tells, of reset and of every step, `stream`, `change_time` (-1 without an event), `delay`, `false_alarm`,
    `correct`, and for each class `events/<class>`, whether it goes on in the frame that is seen.

    Args:
        streams: with frames [L, D] of one D and labels [L, K].
        classes: names of the K label columns; a column `background` is no event and has no action.
        false_alarm_cost: of a declaration before the event.
        delay_cost: of each wait from the event's first frame on.
        wrong_class_cost: of declaring a class that has not begun, after one has; None: as a false alarm.
        miss_cost: of the stream's end, where there was an event.
        correct_reward: of a right declaration.
        render_mode: None, `rgb_array` or `ansi`.

    Raises:
        UsageError: there are no streams, or they do not fit each other or the classes, or an argument is out of range.

    >>> stream = EventStream(np.array([[0.1], [0.9]]), np.array([[0], [1]]))
    >>> WaitOrDeclare([stream], ["hit"], delay_cost=0.5).action_space
    Discrete(2)
    """

    metadata = METADATA

    def __init__(
        self,
        streams: Sequence[EventStream],
        classes: Sequence[str],
        *,
        false_alarm_cost: float = 1.0,
        delay_cost: float = 0.05,
        wrong_class_cost: float | None = None,
        miss_cost: float = 0.0,
        correct_reward: float = 0.0,
        render_mode: str | None = None,
    ) -> None:
        self.render_mode = checked_render_mode(render_mode)
        columns = event_columns(checked_names(classes))
        self.classes = checked_names(classes[place] for place in columns)
        self._streams = tuple(_of_columns(stream, columns) for stream in _checked_streams(streams, len(classes)))
        wrong = false_alarm_cost if wrong_class_cost is None else wrong_class_cost
        self.costs = DecisionCosts(false_alarm_cost, delay_cost, wrong, miss_cost, correct_reward)
        self.observation_space = spaces.Box(-np.inf, np.inf, self._streams[0].frames.shape[1:], np.float32)
        self.action_space = spaces.Discrete(1 + len(self.classes))
        self.stream = 0
        self._time, self._begins = 0, first_event(self._streams[0].labels)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Array, dict[str, Any]]:
        """The first frame of a stream.

        Raises:
            UsageError: `options` names a stream that does not exist.
        """
        super().reset(seed=seed)
        count = len(self._streams)
        drawn = int(self.np_random.integers(count))
        self.stream = int((options or {}).get("stream", drawn))
        if not 0 <= self.stream < count:
            raise UsageError(f"stream is {self.stream}, allowed: 0 … {count - 1}")
        self._time, self._begins = 0, first_event(self._streams[self.stream].labels)
        return self._observe(), self._told(WAIT)

    def step(self, action: Any) -> tuple[Array, float, bool, bool, dict[str, Any]]:
        """The next frame after a wait; after a declaration or the last frame the same again."""
        assert self.action_space.contains(action), f"{action!r} ({type(action)}) invalid"
        decision = self._decision(action)
        reward = self.costs.reward(decision.declares, decision.has_begun, decision.is_right)
        is_last = self._time == len(self._streams[self.stream]) - 1
        if is_last and not decision.declares and decision.has_begun:
            reward -= self.costs.miss
        terminated = decision.declares or is_last
        self._time += not terminated
        return self._observe(), reward, terminated, False, self._told(action)

    def picture(self) -> Picture:
        """The stream's frames in a row, those with an event marked; the agent is on the one in sight."""
        cells = "".join("T" if any(labels) else "." for labels in self._streams[self.stream].labels.tolist())
        names = [name for name, is_on in self._going_on().items() if is_on]
        return chain_picture(cells, self._time, f"stream {self.stream}, frame {self._time}: {', '.join(names) or '-'}")

    def render(self) -> Any:
        """The picture, [H, W, 3] uint8, or text."""
        return rendered(self.picture, self.render_mode)

    def _decision(self, action: Any) -> Decision:
        begins, declares = self._begins, bool(action != WAIT)
        is_right = declares and begins is not None
        if is_right:
            is_right = bool(self._streams[self.stream].labels[begins, int(action) - 1])
        return Decision(begins, self._time, declares, is_right)

    def _going_on(self) -> dict[str, bool]:
        labels = self._streams[self.stream].labels[self._time].tolist()
        return {name: bool(label) for name, label in zip(self.classes, labels, strict=True)}

    def _observe(self) -> Array:
        frame: Array = self._streams[self.stream].frames[self._time].copy()
        return frame

    def _told(self, action: Any) -> dict[str, Any]:
        return {"stream": np.int64(self.stream), **self._decision(action).told(self._going_on())}


def _checked_streams(streams: Sequence[EventStream], classes: int) -> tuple[EventStream, ...]:
    kept = tuple(streams)
    sizes = sorted({(stream.frames.shape[1], stream.labels.shape[1]) for stream in kept})
    if len(sizes) != 1 or sizes[0][1] != classes or sizes[0][0] < 1:
        raise UsageError(
            f"the {len(kept)} streams have frames and labels of (D, K) = {sizes}; there must be one D of at least 1, "
            f"and K must be {classes}, as many as the classes"
        )
    return kept


def _of_columns(stream: EventStream, columns: list[int]) -> EventStream:
    """The stream with these classes only; itself where they are all."""
    if len(columns) == stream.labels.shape[1]:
        return stream
    return EventStream(stream.frames, stream.labels[:, columns])
