"""One process per environment, supervised: exact like the serial one, never hanging, never hiding the real error.

Worth it only where one environment step costs more than about a millisecond; for cheap ones the serial vector
environment is 5 to 25 times faster. Messages between our own processes are pickled by `multiprocessing`; nothing is
read from a file.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

import numpy as np

from rlkit.envs.batch import layout_of
from rlkit.envs.contract import EnvFn, describe
from rlkit.envs.masks import MaskReader
from rlkit.envs.vector import Info, ResetStates, SerialVectorEnv, Space
from rlkit.errors import CheckpointError, EnvironmentFault, RlkitError, UsageError
from rlkit.types import Obs, State, VectorStep

_CLOSE_SECONDS = 5.0  # an environment's own close() may take this long before its process is terminated
_KILL_SECONDS = 2.0


class ProcessVectorEnv:
    """N environments in N processes, started by `spawn`; results are taken in the order of the rows."""

    def __init__(self, env_fns: Sequence[EnvFn], timeout: float = 60.0) -> None:
        """Start the workers and build the environments.

        Args:
            env_fns: Picklable factories, e.g. `rlkit.envs.make.EnvFactory`.
            timeout: Seconds one row may take for a step, a reset or its construction.
        """
        if not env_fns:
            raise UsageError("a vector environment needs at least one environment, got 0")
        self.timeout = timeout
        self.num_envs = len(env_fns)
        self._pipes: list[Connection] = []
        self._workers: list[BaseProcess] = []
        try:
            for index, env_fn in enumerate(env_fns):
                self._start(index, env_fn)
            described = self._results("construction")
        except BaseException:
            self.close()
            raise
        self.single_observation_space: Space = described[0][0]
        self.single_action_space: Space = described[0][1]
        self.frame_stack: int = described[0][2]
        self._layout = layout_of(self.single_observation_space)
        self._masks = MaskReader(self.single_observation_space, self.single_action_space)
        self._require_equal_spaces(described)

    @cached_property
    def restore_tier(self) -> str:
        """Tier probed in the first worker."""
        self._send(0, "tier", ())
        return str(self._result(0, "restore probe", time.monotonic() + self.timeout))

    def reset(self, seed: int) -> tuple[Obs, tuple[Info, ...]]:
        """Start new episodes; seeds equal those of `SerialVectorEnv`."""
        return self._joined(self._ask("reset", [(seed,)] * self.num_envs))

    def step(self, action: Any, reset_states: ResetStates | None = None) -> VectorStep:
        """Step every row at the same time."""
        states = reset_states or [None] * self.num_envs
        rows = [(_row(action, i), [states[i]]) for i in range(self.num_envs)]
        parts: list[VectorStep] = self._ask("step", rows)
        any_ended = any(part.next_obs is not part.obs for part in parts)
        next_obs = self._layout.concatenate([part.next_obs for part in parts])
        return VectorStep(
            obs=self._layout.concatenate([part.obs for part in parts]) if any_ended else next_obs,
            next_obs=next_obs,
            reward=np.concatenate([part.reward for part in parts]),
            terminated=np.concatenate([part.terminated for part in parts]),
            truncated=np.concatenate([part.truncated for part in parts]),
            infos=tuple(part.infos[0] for part in parts),
            reset_infos=tuple(part.reset_infos[0] for part in parts),
            action_mask=self._masks.join([part.action_mask for part in parts]),
            next_action_mask=self._masks.join([part.next_action_mask for part in parts]),
        )

    def get_state(self) -> State:
        """State of every worker's environment."""
        return {"tier": self.restore_tier, "rows": self._ask("get_state", [(self.restore_tier,)] * self.num_envs)}

    def set_state(self, state: State) -> tuple[Obs, tuple[Info, ...]] | None:
        """Continue; see `VectorEnv.set_state`."""
        if len(state["rows"]) != self.num_envs:
            raise CheckpointError(f"the state holds {len(state['rows'])} environments, this run has {self.num_envs}")
        parts = self._ask("set_state", [(row,) for row in state["rows"]])
        return None if state["tier"] == "exact" else self._joined(parts)

    def close(self) -> None:
        """End all workers in bounded time: ask, then terminate, then kill."""
        for pipe in self._pipes:
            with suppress(OSError):  # the worker may be gone already
                pipe.send(("close", ()))
        _end(self._workers, lambda worker: None, _CLOSE_SECONDS)
        _end(self._workers, lambda worker: worker.terminate(), _KILL_SECONDS)
        _end(self._workers, lambda worker: worker.kill(), _KILL_SECONDS)
        for pipe in self._pipes:
            pipe.close()
        self._pipes, self._workers = [], []

    def _joined(self, parts: list[tuple[Obs, tuple[Info, ...]]]) -> tuple[Obs, tuple[Info, ...]]:
        """First observations and infos of all rows."""
        return self._layout.concatenate([obs for obs, _ in parts]), tuple(infos[0] for _, infos in parts)

    def _start(self, index: int, env_fn: EnvFn) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        worker = context.Process(target=_serve, args=(theirs, index), name=f"rlkit-env-{index}", daemon=True)
        self._pipes.append(ours)
        worker.start()
        self._workers.append(worker)
        theirs.close()
        try:
            ours.send(env_fn)
        except OSError:
            return  # died at once; the first result tells why
        except Exception as error:
            raise UsageError(
                f"environment {index} cannot be sent to its process: {describe(error)}\n"
                "Name it as a gymnasium id or as path/to/file.py:ClassName, and pass wrappers defined at module level "
                'instead of lambdas; or use vector="serial".'
            ) from error

    def _ask(self, command: str, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        for index, arguments in enumerate(rows):
            self._send(index, command, arguments)
        return self._results(command)

    def _send(self, index: int, command: str, arguments: tuple[Any, ...]) -> None:
        if not self._workers:
            raise UsageError("this vector environment is closed")
        try:
            self._pipes[index].send((command, arguments))
        except OSError:
            self._died(index, command)

    def _results(self, command: str) -> list[Any]:
        deadline = time.monotonic() + self.timeout
        return [self._result(index, command, deadline) for index in range(self.num_envs)]

    def _result(self, index: int, command: str, deadline: float) -> Any:
        pipe, worker = self._pipes[index], self._workers[index]
        ready = wait([pipe, worker.sentinel], timeout=max(0.0, deadline - time.monotonic()))
        if not ready:
            self._hung(index, command)
        if pipe not in ready and not pipe.poll():  # the last message of a worker that ended counts
            self._died(index, command)
        try:
            kind, payload = pipe.recv()
        except (EOFError, OSError):
            self._died(index, command)
        if kind != "ok":
            self._stop_at_once()
            raise UsageError(payload) if kind == "usage" else EnvironmentFault(payload)
        return payload

    def _hung(self, index: int, command: str) -> NoReturn:
        self._stop_at_once()
        raise EnvironmentFault(
            f"environment {index} did not answer to {command} within {self.timeout:g} seconds; all workers are ended. "
            "If it is only slow, pass a larger timeout."
        )

    def _died(self, index: int, command: str) -> NoReturn:
        worker = self._workers[index]
        worker.join(_KILL_SECONDS)
        code = worker.exitcode
        self._stop_at_once()
        raise EnvironmentFault(f"the process of environment {index} ended during {command}: {_exit_text(code)}")

    def _stop_at_once(self) -> None:
        for worker in self._workers:
            worker.terminate()
        self.close()

    def _require_equal_spaces(self, described: Sequence[tuple[Space, Space, int]]) -> None:
        for index, (observation_space, action_space, _) in enumerate(described):
            if (observation_space, action_space) != (self.single_observation_space, self.single_action_space):
                self.close()
                raise EnvironmentFault(f"environment {index} has other spaces than environment 0")


def _row(action: Any, index: int) -> Any:
    """Row `index` of a batched action, still with a leading axis of 1."""
    if isinstance(action, dict):
        return {key: _row(part, index) for key, part in action.items()}
    if isinstance(action, tuple):
        return tuple(_row(part, index) for part in action)
    return action[index : index + 1]


def _end(workers: Sequence[BaseProcess], act: Callable[[BaseProcess], None], seconds: float) -> None:
    alive = [worker for worker in workers if worker.is_alive()]
    for worker in alive:
        act(worker)
    deadline = time.monotonic() + seconds
    for worker in alive:
        worker.join(max(0.0, deadline - time.monotonic()))


def _exit_text(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}; its last words are on stderr"
    name = signal.Signals(-code).name
    hint = " (out of memory?)" if name == "SIGKILL" else ""
    return f"killed by {name}{hint}"


def _serve(pipe: Connection, index: int) -> None:
    """Worker: build one environment and answer commands until told to close or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C belongs to the parent, which writes a checkpoint first
    env: SerialVectorEnv | None = None
    try:
        env = SerialVectorEnv([pipe.recv()], first_index=index)
        pipe.send(("ok", (env.single_observation_space, env.single_action_space, env.frame_stack)))
        while True:
            command, arguments = pipe.recv()
            if command == "close":
                break
            pipe.send(("ok", _answer(env, command, arguments)))
    except EOFError:
        pass  # the parent is gone
    except Exception as error:
        _send_fault(pipe, index, error)
    finally:
        if env is not None:
            env.close()


def _answer(env: SerialVectorEnv, command: str, arguments: tuple[Any, ...]) -> Any:
    if command == "step":
        return env.step(*arguments)  # pickling keeps `obs is next_obs`, which tells the parent that no episode ended
    if command == "reset":
        return env.reset(*arguments)
    if command == "set_state":
        return env.set_state(*arguments)
    if command == "tier":
        return env.restore_tier
    assert command == "get_state"
    env.__dict__["restore_tier"] = arguments[0]  # probed once, in the first worker
    return env.get_state()


def _send_fault(pipe: Connection, index: int, error: Exception) -> None:
    text = str(error) if isinstance(error, RlkitError) else f"environment {index} failed: {describe(error)}"
    if isinstance(error, UsageError):
        message = ("usage", text)
    else:
        lines = "".join(traceback.format_exception(error)).rstrip()
        message = ("fault", f"{text}\n--- traceback of the worker ---\n{lines}")
    with suppress(OSError):  # the parent may be gone
        pipe.send(message)
