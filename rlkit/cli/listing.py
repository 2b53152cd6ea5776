"""`rlkit list`: what can be named on the command line."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from rlkit import registry


@dataclass(frozen=True)
class ListOptions:
    """List what can be named on the command line."""

    what: Annotated[
        Literal["agents", "encoders", "detectors", "streams", "envs", "wrappers", "presets"], tyro.conf.Positional
    ]
    """agents, encoders (methods of `rlkit pretrain`), detectors (of `rlkit detect train`) and the streams they watch,
    envs (gymnasium's and ours), wrappers (for --wrap) or presets"""


def run(arguments: list[str]) -> int:
    """Print one line per name."""
    what = tyro.cli(ListOptions, args=arguments, prog="rlkit list").what
    listed = {
        "agents": _agents, "encoders": _encoders, "detectors": _detectors, "streams": _streams, "envs": _envs,
        "wrappers": _wrappers, "presets": _presets,
    }  # fmt: skip
    rows = listed[what]()
    for name, summary in rows:
        print(f"{name:<36} {summary}".rstrip())
    return 0


def _agents() -> Iterable[tuple[str, str]]:
    return [(name, entry.summary) for name, entry in registry.AGENTS.items()]


def _encoders() -> Iterable[tuple[str, str]]:
    return [(name, entry.summary) for name, entry in registry.METHODS.items()]


def _detectors() -> Iterable[tuple[str, str]]:
    return [(name, entry.summary) for name, entry in registry.DETECTORS.items()]


def _streams() -> Iterable[tuple[str, str]]:
    from rlkit.envs.streams import STREAMS

    return [(name, stream.summary) for name, stream in STREAMS.items()]


def _envs() -> Iterable[tuple[str, str]]:
    import gymnasium as gym

    from rlkit.envs.registration import ENVS

    latest = {spec.name: spec for spec in sorted(gym.registry.values(), key=lambda spec: spec.version or 0)}
    # gymnasium registers phys2d and tabular twins that only run with JAX
    foreign = [spec for spec in latest.values() if not spec.id.startswith(("phys2d/", "tabular/", "GymV", "rlkit/"))]
    listed = [(spec.id, _origin(str(spec.entry_point))) for spec in sorted(foreign, key=lambda spec: spec.id)]
    return [*listed, *((name, entry.summary) for name, entry in ENVS.items())]


def _origin(entry_point: str) -> str:
    parts = entry_point.split(".")
    return parts[2].replace("_", " ") if parts[:2] == ["gymnasium", "envs"] and len(parts) > 2 else parts[0]


def _wrappers() -> Iterable[tuple[str, str]]:
    from rlkit.envs.wrapper_names import WRAPPERS

    return [(name, entry.summary) for name, entry in WRAPPERS.items()]


def _presets() -> Iterable[tuple[str, str]]:
    from rlkit.config import read_yaml

    for name, path in registry.preset_files().items():
        data = read_yaml(path).data
        yield name, f"{data['agent']['name']} on {', '.join(data.get('envs', ['any environment']))}"
