"""The table of `agents_speed.py`: medians over complete rounds, ratios within each round."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Record: TypeAlias = dict[str, Any]
Round: TypeAlias = dict[str, Record]  # by library


def label(work: str, env: str) -> str:
    """`ddpg Pendulum-v1`, or just `acting`."""
    return f"{work} {env}".strip()


def unit(record: Record) -> str:
    """Training counts env steps per second, calls count microseconds."""
    return "steps/s" if record["env"] else "µs"


def value(record: Record) -> float:
    """The measurement in its unit."""
    seconds_each: float = record["seconds"] / record["steps"]
    return 1 / seconds_each if record["env"] else 1e6 * seconds_each


def shown(record: Record) -> str:
    """`240.1 steps/s`."""
    return f"{value(record):.1f} {unit(record)}"


def complete_rounds(records: Iterable[Record]) -> dict[tuple[str, str], list[Round]]:
    """By work and environment: the rounds in which every library that was planned has been measured, oldest first."""
    rounds: dict[tuple[str, str, str, int], Round] = {}
    for record in records:
        key = (record["work"], record["env"], record["sitting"], record["round"])
        rounds.setdefault(key, {})[record["library"]] = record
    complete: dict[tuple[str, str], list[Round]] = {}
    for (work, env, _, _), found in sorted(rounds.items()):
        if set(found) == set(next(iter(found.values()))["libraries"]):
            complete.setdefault((work, env), []).append(found)
    return complete


def comparable(rounds: list[Round]) -> list[Round]:
    """Those rounds that share steps, machine, versions and rlkit's code with the newest."""

    def conditions(found: Round) -> list[Any]:
        record = next(iter(found.values()))
        code = found["rlkit"]["code"] if "rlkit" in found else None
        return [record["steps"], record["machine"], record["versions"], peer_versions(found), code]

    newest = max(rounds, key=lambda found: max(record["finished"] for record in found.values()))
    return [found for found in rounds if conditions(found) == conditions(newest)]


def peer_versions(found: Round) -> dict[str, str]:
    """Versions in the interpreters of peers that have their own."""
    return {name: number for record in found.values() for name, number in record.get("peer_versions", {}).items()}


def spread(values: Sequence[float], digits: int) -> str:
    """`median [min–max]`."""
    return f"{statistics.median(values):,.{digits}f} [{min(values):,.{digits}f}–{max(values):,.{digits}f}]"


def table(records: Iterable[Record], libraries: Mapping[str, Iterable[str]]) -> str:
    """Markdown: a row per work and library; the ratio is the median of the ratios of each round.

    Args:
        records: Measurements of any sittings, in any order.
        libraries: For each kind of work its libraries, in the order of their rows.
    """
    lines = ["| work | library | median [min–max] | rlkit / library, per round | rounds |", "|---|---|---|---|---|"]
    notes = ["steps/s: more is better, and so is a ratio above 1; µs: less is better, and so is a ratio below 1.", ""]
    for (work, env), rounds in complete_rounds(records).items():
        kept = comparable(rounds)
        for library in (name for name in libraries[work] if any(name in found for found in kept)):
            own = [found for found in kept if library in found]
            values = spread([value(found[library]) for found in own], 1)
            ratios = [value(found["rlkit"]) / value(found[library]) for found in own if "rlkit" in found]
            ratio = spread(ratios, 2) if ratios and library != "rlkit" else "–"
            cells = (label(work, env), library, f"{values} {unit(own[0][library])}", ratio, str(len(own)))
            lines.append(f"| {' | '.join(cells)} |")
        notes.append(f"- {label(work, env)}: {note(kept, len(rounds) - len(kept))}")
    return "\n".join([*lines, "", *notes]) + "\n"


def note(rounds: list[Round], left_out: int) -> str:
    """Under which conditions the rounds of a row were measured, and how many others there are."""
    records = [next(iter(found.values())) for found in rounds]
    parts = [
        f"{records[0]['steps']:,} steps or calls timed",
        "sittings " + ", ".join(dict.fromkeys(record["sitting"] for record in records)),
        records[0]["machine"],
        ", ".join(f"{name} {number}" for name, number in (records[0]["versions"] | peer_versions(rounds[0])).items()),
    ]
    backends = {found["rlkit"]["matmul_backend"] for found in rounds if "rlkit" in found} - {None}
    if backends:
        parts.append(f"rlkit's matrix products by {' and '.join(sorted(backends))}")
    if left_out:
        parts.append(f"{left_out} complete rounds with other steps, machine, versions or code of rlkit left out")
    return "; ".join(parts)
