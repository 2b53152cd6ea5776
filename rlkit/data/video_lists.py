"""Which videos are learned from and which are tested on, and the names of their classes: `data_info.json` and its kin.

TRN, OadTR, LSTR and MiniROAD keep an object for each dataset in one file: `class_names` (or `class_index`),
`train_session_set`, `test_session_set`, and in LSTR's `fps`. Their `ignore_index` is not read: which class is ambiguous
is told by its name, and FineAction's index means the background.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlkit.data.events import BACKGROUND
from rlkit.errors import DatasetError

AMBIGUOUS = "ambiguous"
"""Name of the class of frames of which annotators could not tell what they show, as THUMOS14 has one."""
THUMOS14_CLASSES = (
    BACKGROUND, "BaseballPitch", "BasketballDunk", "Billiards", "CleanAndJerk", "CliffDiving", "CricketBowling",
    "CricketShot", "Diving", "FrisbeeCatch", "GolfSwing", "HammerThrow", "HighJump", "JavelinThrow", "LongJump",
    "PoleVault", "Shotput", "SoccerPenalty", "TennisSwing", "ThrowDiscus", "VolleyballSpiking", AMBIGUOUS,
)  # fmt: skip
"""The 22 columns of THUMOS14's labels in the codes of TRN, OadTR, LSTR and MiniROAD."""
_TRAIN, _TEST = "train_session_set", "test_session_set"


@dataclass(frozen=True)
class VideoList:
    """What is told of one dataset.

    Attributes:
        source: Where.
        classes: Names in the order of the columns; None where they are not told.
        train: Videos to learn from, in order.
        test: Videos to test on.
        frame_rate: Frames of features a second; None where it is not told.
    """

    source: str
    classes: tuple[str, ...] | None
    train: tuple[str, ...]
    test: tuple[str, ...]
    frame_rate: float | None


def read_video_list(places: Sequence[Path], videos: Collection[str]) -> VideoList | None:
    """Of the datasets that JSON files in `places` list, the one that most of these videos belong to.

    All files of the first place are looked into, of the others those that are called `data_info…`, as the published
    codes have one beside the folder of each dataset. None where no file lists videos.

    Raises:
        DatasetError: a file is damaged, or the files list none of these videos.
    """
    files = sorted(places[0].glob("*.json"))
    files += [file for place in places[1:] for file in sorted(place.glob("data_info*.json"))]
    found = [each for file in files for each in _lists_in(file)]
    if not found:
        return None
    known = set(videos)
    best = max(found, key=lambda each: len(known.intersection((*each.train, *each.test))))
    if not known.intersection((*best.train, *best.test)):
        raise DatasetError(
            f"{', '.join(each.source for each in found)} list none of the {len(known)} videos that have features, such "
            f"as {min(known)}: list them, or take the file away"
        )
    return best


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises DatasetError where it is damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read as JSON: {error}") from error


def class_name(name: str) -> str:
    """The name, `Background` and `Ambiguous` in small letters as elsewhere in rlkit."""
    return name.lower() if name.lower() in (BACKGROUND, AMBIGUOUS) else name


def class_names(names: Sequence[str], source: str) -> tuple[str, ...]:
    """Each one's `class_name`. Raises DatasetError where one is there twice."""
    found = tuple(map(class_name, names))
    if twice := sorted({name for name in found if found.count(name) > 1}):
        raise DatasetError(f"{source} names {', '.join(twice)} twice: give each class its own name")
    return found


def _lists_in(path: Path) -> list[VideoList]:
    """Lists of a file's datasets, or of the one that it is about; none where it is about something else."""
    data = read_json(path)
    if not isinstance(data, Mapping):
        return []
    entries = {"": data} | {str(name): entry for name, entry in data.items()}
    return [
        _list_of(entry, f"{path}{f' ({name})' if name else ''}")
        for name, entry in entries.items()
        if isinstance(entry, Mapping) and (_TRAIN in entry or _TEST in entry)
    ]


def _list_of(entry: Mapping[str, Any], source: str) -> VideoList:
    train, test = (_texts(entry.get(key), key, source) for key in (_TRAIN, _TEST))
    if twice := sorted(set(train) & set(test)):
        raise DatasetError(f"{source} has {', '.join(twice[:5])} both in {_TRAIN} and in {_TEST}: keep it in one")
    key = next((key for key in ("class_names", "class_index") if key in entry), None)
    names = None if key is None else class_names(_texts(entry[key], key, source), source)
    rate = entry.get("fps")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not rate > 0):
        raise DatasetError(f"fps of {source} is {rate!r}: a positive number of frames of features a second is needed")
    return VideoList(source, names, train, test, None if rate is None else float(rate))


def _texts(value: Any, key: str, source: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not value or not all(isinstance(each, str) for each in value):
        raise DatasetError(f"{key} of {source} is {str(value)[:40]!r}: a list of names is needed")
    return tuple(value)
