"""What `attention_gpu.py` has measured as a table, and against the goals that were set beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from attention_contenders import SHAPES

Record: TypeAlias = dict[str, Any]


def floor(record: Record, backward: bool, bandwidth: float | None) -> float | None:
    """The lower of the notes' floor and of bytes over the bandwidth found here, in microseconds."""
    notes = record["floors_us"][backward]
    if notes is None or not bandwidth:
        return notes if notes is None else float(notes)
    return float(min(notes, record["moved"][backward] / bandwidth / 1e3))


def goals(records: Sequence[Record], bandwidth: float | None) -> list[Record]:
    """The eight goals of the notes, each with what was found; `passed` is None where it was not measured."""
    by = {(record["shape"], record["contender"]): record for record in records if "problem" not in record}
    right = {key: record for key, record in by.items() if not record.get("wrong")}

    def told(number: int, what: str, found: float | None, wanted: float, at_most: bool = False) -> Record:
        passed = None if found is None else (found <= wanted if at_most else found >= wanted)
        return {"goal": number, "what": what, "found": found, "wanted": wanted, "passed": passed}

    def ratio(shape: str, others: str, field: str, without: str = "mask") -> float | None:
        """Time of the fastest other whose name begins so over ours."""
        times = [r[field] for (s, c), r in right.items() if s == shape and c.startswith(others) and without not in c]
        ours = right.get((shape, "own"))
        return min(times) / ours[field] if times and ours and ours[field] else None

    def over_floor(shape: str, backward: bool) -> float | None:
        ours = right.get((shape, "own"))
        below = floor(ours, backward, bandwidth) if ours else None
        return ours["backward_us" if backward else "forward_us"] / below if ours and below else None

    def layers(shape: str) -> float | None:
        ours = right.get((shape, "own"))
        return 4 * ours["forward_us"] if ours else None

    found = [
        told(1, "S4 forward, SDPA's best time over ours", ratio("S4", "SDPA", "forward_us"), 0.9),
        told(1, "S4 backward, SDPA's best time over ours", ratio("S4", "SDPA", "backward_us"), 0.7),
        told(1, "time of attention() over raw SDPA, dense (needs the dispatch)", None, 1.02, True),
    ]
    for shape in ("S1", "S2"):
        anew = right.get((shape, "Flex, mask anew"))
        ours = right.get((shape, "own"))
        found += [
            told(2, f"{shape}, SDPA with dense mask over ours", ratio(shape, "SDPA", "total_us"), 2),
            told(2, f"{shape}, Flex over ours", ratio(shape, "Flex", "total_us"), 1.2),
            told(2, f"{shape}, Flex with its mask built anew over ours",
                 anew["total_us"] / ours["total_us"] if anew and ours else None, 4),
        ]  # fmt: skip
    for shape in ("S1", "S2", "S5"):
        found.append(told(3, f"{shape} forward over floor", over_floor(shape, False), 2.0, True))
        found.append(told(3, f"{shape} backward over floor", over_floor(shape, True), 2.5, True))
    steady, packed = by.get(("steady", "own")), by.get(("S2", "own"))
    needed = SHAPES["S2"].moved(backward=True)
    there = SHAPES["S2"].moved(backward=False) if packed else 0  # q, k, v and the outputs' gradient
    memory = (packed["peak_bytes"] + there) / needed if packed and packed["peak_bytes"] else None
    return [
        *found,
        told(4, "S3, SDPA flash over ours", ratio("S3", "SDPA flash", "total_us"), 1.3),
        told(5, "4 layers of S8 C=256, microseconds", layers("S8 C=256"), 540, True),
        told(5, "4 layers of S8 MQA C=256, microseconds", layers("S8 MQA C=256"), 95, True),
        told(6, "whole policy step, 1024 rows, C=64, milliseconds (needs the layers)", None, 0.3, True),
        told(7, "S2 peak memory over q, k, v, out, gradients, sums", memory, 1.1, True),
        told(8, "variants compiled over updates with new boundaries, without waiting",
             float(steady["compiled"]) if steady else None, 0, True),
    ]  # fmt: skip


def table(records: Sequence[Record], about: Record) -> str:
    """All that was measured, as Markdown; of a dry run without verdicts."""
    bandwidth = about["copy_gb_s"]
    lines = [
        f"{'Dry run, the figures mean nothing. ' * about['dry']}{about['gpu']}, torch {about['versions']['torch']}, "
        f"triton {about['versions']['triton']}, copy {bandwidth and round(bandwidth)} GB/s. Microseconds; × floor: "
        "over the lower of the notes' floor and bytes over the copy's speed.",
        "",
        "| shape | contender | forward | GB/s | × floor | backward | × floor | peak MB | error | how |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for record in records:
        if record["shape"] in {"steady", "policy"}:
            continue
        cells = [record["shape"], record["contender"]]
        if "problem" in record:
            lines.append(f"| {' | '.join(cells)} | {record['problem'].replace('|', '/')} |||||||")
            continue
        for field, backward in (("forward_us", False), ("backward_us", True)):
            below = floor(record, backward, bandwidth) if field in record else None
            failed = record.get("backward_problem", "").replace("|", "/") if backward else ""
            cells.append(f"{record[field]:.1f}" if field in record else failed)
            if not backward:
                cells.append(f"{record['forward_gb_s']:.0f}")
            cells.append(f"{record[field] / below:.2f}" if below else "")
        size, worst = record.get("peak_bytes"), record.get("gradient_error") or record.get("error")
        cells += [f"{size / 1e6:.1f}" if size else "", "" if worst is None else f"{worst:.0e}"]
        cells.append(record["how"] + (", WRONG" if record.get("wrong") else ""))
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", "| goal | what | found | wanted | |", "|---|---|---|---|---|"]
    verdicts = goals([] if about["dry"] else records, bandwidth)
    words = {True: "pass", False: "fail", None: "not measured"}
    for verdict in verdicts:
        value = "" if verdict["found"] is None else f"{verdict['found']:.2f}"
        cells = [str(verdict["goal"]), verdict["what"], value, str(verdict["wanted"]), words[verdict["passed"]]]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
