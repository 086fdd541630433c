"""Video sets as published: Kinetics, Something-Something v2, Diving48, Jester, COIN, EPIC-KITCHENS-100.

Kinetics: {train,val,validate,test}.csv (label, youtube_id, time_start, time_end, split), also below annotations/; videos
anywhere below as <youtube_id>_<start>_<end>.mp4 (six digits each) or <youtube_id>.mp4.
Something-Something v2: labels.json, train.json, validation.json, test.json (also under their long names), <id>.webm or .mp4.
Diving48: Diving48_V2_{train,test}.json and Diving48_vocab.json, <vid_name>.mp4.
Jester: jester-v1-{labels,train,validation,test}.csv (id;label), videos or folders of pictures by id.
COIN: COIN.json, <id>.mp4. EPIC-KITCHENS-100: EPIC_100_{train,validation}.csv, PXX/videos/<video_id>.MP4 or PXX/<video_id>.MP4.

Splits are called train, val and test, whatever the set calls them. Videos are looked for below the folder of the lists, or below `videos`.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.data.checks import checked_labels, listed, permitted
from tacit.data.video_lists import Listed, videos_below

__all__ = ["LAYOUTS", "epic_classes", "epic_rows"]

Splits = dict[str, Path]


def _first(root: Path, names: Iterable[str]) -> Path | None:
    places = (root, root / "annotations", root / "labels")
    return next((place / name for name in names for place in places if (place / name).is_file()), None)


def _found(root: Path, names: Mapping[str, Sequence[str]]) -> Splits:
    files = {split: _first(root, candidates) for split, candidates in names.items()}
    return {split: file for split, file in files.items() if file is not None}


def _json(file: Path) -> Any:
    try:
        with permitted(file):
            return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file}: is no JSON ({error}): fetch it again") from error


def _table(file: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Rows of a CSV with a header; a missing column is named beside those that are there."""
    with permitted(file), open(file, encoding="utf-8", newline="") as text:
        reader = csv.DictReader(text)
        columns = reader.fieldnames or ()
        missing = [name for name in needed if name not in columns]
        if missing:
            raise DataError(
                f"{file}: lacks the column {', '.join(missing)}; it has {', '.join(columns) or 'none'}: take the published file"
            )
        return list(reader)


def _fields(file: Path, rows: Any, names: Sequence[str]) -> list[tuple[Any, ...]]:
    """The named entries of each object in a JSON list."""
    try:
        return [tuple(row[name] for name in names) for row in rows]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"{file}: every entry needs {', '.join(names)}; {error!s} is missing from one: take the published file"
        ) from error


def _numbers(names: Sequence[str], classes: Sequence[str], file: Path) -> NDArray[np.int64]:
    place = {name: i for i, name in enumerate(classes)}
    strange = next((name for name in names if name not in place), None)
    if strange is not None:
        raise DataError(f"{file}: names the class {strange!r}, which is none of the {len(classes)} that are known")
    return np.array([place[name] for name in names], dtype=np.int64)


def _located(found: Listed, keys: Sequence[Sequence[str]], below: Path) -> Listed:
    """The rows whose video is among those below a folder, under one of its keys (names without ending)."""
    places = {name.rpartition("/")[2].rpartition(".")[0]: name for name in videos_below(below)}
    where = [next((places[key] for key in own if key in places), None) for own in keys]
    if not any(where):
        raise DataError(
            f"{below}: none of the {len(keys)} listed videos is below this folder, the first is {keys[0][0]}: extract them there, or "
            "say where they are, videos=FOLDER"
        )
    there = found.only([name is not None for name in where], [name for name in where if name is not None])
    return Listed(
        below, there.names, there.labels, there.classes, there.windows, there.factors, there.absent, there.rate
    )


# Kinetics

_KINETICS = {
    "train": ("train.csv", "kinetics_train.csv"),
    "val": ("val.csv", "validate.csv", "validation.csv"),
    "test": ("test.csv",),
}


def _kinetics_splits(root: Path) -> Splits:
    def fits(file: Path) -> bool:
        with permitted(file), open(file, encoding="utf-8", errors="replace") as text:
            return "youtube_id" in text.readline()

    return {split: file for split, file in _found(root, _KINETICS).items() if fits(file)}


def _kinetics(splits: Splits, split: str, videos: Path) -> Listed:
    tables = {name: _table(file, ("youtube_id", "time_start", "time_end")) for name, file in splits.items()}
    classes = sorted({row["label"] for rows in tables.values() for row in rows if row.get("label")})
    rows, file = tables[split], splits[split]
    keys = []
    for row in rows:
        try:
            span = f"{int(float(row['time_start'])):06d}_{int(float(row['time_end'])):06d}"
        except ValueError as error:
            raise DataError(
                f"{file}: the times of {row['youtube_id']} are no numbers: take the published file"
            ) from error
        keys.append((f"{row['youtube_id']}_{span}", row["youtube_id"]))
    labels = _numbers([row["label"] for row in rows], classes, file) if rows and rows[0].get("label") else None
    found = Listed(videos, [key for key, _ in keys], labels, tuple(classes) if labels is not None else ())
    return _located(found, keys, videos)


# Something-Something v2

_SSV2 = {
    name: (f"{file}.json", f"something-something-v2-{file}.json")
    for name, file in (("train", "train"), ("val", "validation"), ("test", "test"))
}


def _ssv2_splits(root: Path) -> Splits:
    return _found(root, _SSV2) if _first(root, ("labels.json", "something-something-v2-labels.json")) else {}


def _ssv2(splits: Splits, split: str, videos: Path) -> Listed:
    file = splits[split]
    rows = _json(file)
    if split == "test":
        keys = [(str(one),) for (one,) in _fields(file, rows, ("id",))]
        return _located(Listed(videos, [key for (key,) in keys]), keys, videos)
    labels = (
        _first(file.parent, ("labels.json", "something-something-v2-labels.json")) or file.parent.parent / "labels.json"
    )
    numbered = sorted((int(number), str(name)) for name, number in _json(labels).items())
    classes = [name for _, name in numbered]
    found = _fields(file, rows, ("id", "template"))
    named = [str(template).replace("[", "").replace("]", "") for _, template in found]
    keys = [(str(one),) for one, _ in found]
    return _located(Listed(videos, [k for (k,) in keys], _numbers(named, classes, file), tuple(classes)), keys, videos)


# Diving48

_DIVING = {split: (f"Diving48_V2_{split}.json", f"Diving48_{split}.json") for split in ("train", "test")}


def _diving_splits(root: Path) -> Splits:
    return _found(root, _DIVING)


def _diving(splits: Splits, split: str, videos: Path) -> Listed:
    file = splits[split]
    found = _fields(file, _json(file), ("vid_name", "label"))
    vocabulary = _first(file.parent, ("Diving48_vocab.json",))
    most = max(int(label) for name in splits for (label,) in _fields(splits[name], _json(splits[name]), ("label",)))
    classes = [", ".join(words) for words in _json(vocabulary)] if vocabulary else [str(i) for i in range(most + 1)]
    labels = checked_labels(np.array([int(label) for _, label in found]), len(found), len(classes), str(file))
    keys = [(str(name),) for name, _ in found]
    return _located(Listed(videos, [k for (k,) in keys], labels, tuple(classes)), keys, videos)


# Jester

_JESTER = {
    split: (f"jester-v1-{name}.csv", f"{name}.csv")
    for split, name in (("train", "train"), ("val", "validation"), ("test", "test"))
}


def _jester_splits(root: Path) -> Splits:
    return _found(root, _JESTER) if _first(root, ("jester-v1-labels.csv",)) else {}


def _jester(splits: Splits, split: str, videos: Path) -> Listed:
    file = splits[split]
    labels = _first(file.parent, ("jester-v1-labels.csv",))
    assert labels is not None  # noqa: S101 (the split was found beside it)
    classes = [line.strip() for line in labels.read_text("utf-8").splitlines() if line.strip()]
    rows = [line.split(";") for line in file.read_text("utf-8").splitlines() if line.strip()]
    bare = split == "test" or all(len(row) == 1 for row in rows)
    short = next((i for i, row in enumerate(rows, 1) if not bare and len(row) < 2), None)
    if short is not None:
        raise DataError(f"{file}: line {short} has no label; a row reads `id;label`: take the published file")
    known = None if bare else _numbers([row[1] for row in rows], classes, file)
    found = Listed(videos, [row[0] for row in rows], known, () if known is None else tuple(classes))
    place = videos / "20bn-jester-v1" if (videos / "20bn-jester-v1").is_dir() else videos
    folders = {entry.name for entry in listed(place) if entry.is_dir()}
    if rows[0][0] in folders or folders.issuperset(row[0] for row in rows[:100]):
        there = found.only([name in folders for name in found.names], [name for name in found.names if name in folders])
        return Listed(place, there.names, there.labels, there.classes, absent=there.absent, rate=12.0)
    return _located(found, [(name,) for name in found.names], videos)


# COIN


def _coin_splits(root: Path) -> Splits:
    file = _first(root, ("COIN.json",))
    return {} if file is None else {"train": file, "test": file}


def _coin(splits: Splits, split: str, videos: Path) -> Listed:
    file = splits[split]
    held = _json(file)
    database = held.get("database") if isinstance(held, dict) else None
    if not isinstance(database, dict):
        raise DataError(f"{file}: has no 'database' of videos: take the published COIN.json")
    own = _fields(file, database.values(), ("subset", "class"))
    classes = sorted({str(name) for _, name in own})
    wanted = {"train": "training", "test": "testing"}[split]
    rows = [(str(key), str(name)) for key, (subset, name) in zip(database, own, strict=True) if subset == wanted]
    labels = _numbers([name for _, name in rows], classes, file)
    return _located(
        Listed(videos, [key for key, _ in rows], labels, tuple(classes)), [(key,) for key, _ in rows], videos
    )


# EPIC-KITCHENS-100

_EPIC = {"train": ("EPIC_100_train.csv",), "val": ("EPIC_100_validation.csv",)}
_EPIC_COLUMNS = (
    "video_id",
    "start_frame",
    "stop_frame",
    "start_timestamp",
    "stop_timestamp",
    "verb_class",
    "noun_class",
)


def _epic_splits(root: Path) -> Splits:
    return _found(root, _EPIC)


def epic_rows(file: Path) -> list[dict[str, str]]:
    """The annotations of a split, with the columns that are used."""
    return _table(file, _EPIC_COLUMNS)


def epic_classes(rows: Iterable[Mapping[str, str]], order: str = "sorted") -> dict[tuple[int, int], int]:
    """The actions (verb, noun) of the training rows, numbered: in ascending order, or 'official', as Python iterates over their set.

    The released heads of V-JEPA 2 need the latter (3,568 actions). That order follows from the hashes of the pairs, which are not
    salted, and from the order of the rows: keep the numbers beside the weights of a head.
    """
    pairs: set[tuple[int, int]] = set()
    for row in rows:
        pairs.add((int(row["verb_class"]), int(row["noun_class"])))
    return {pair: i for i, pair in enumerate(pairs if order == "official" else sorted(pairs))}


def _seconds(text: str) -> float:
    hours, minutes, seconds = text.split(":")
    return 3600 * int(hours) + 60 * int(minutes) + float(seconds)


def _epic(splits: Splits, split: str, videos: Path, order: str = "sorted") -> Listed:
    file = splits[split]
    actions = epic_classes(epic_rows(splits.get("train", file)), order)
    rows = epic_rows(file)
    pairs = [(int(row["verb_class"]), int(row["noun_class"])) for row in rows]
    known = [pair in actions for pair in pairs]  # as published: actions that training lacks are not scored
    rows, pairs = ([one for one, here in zip(held, known, strict=True) if here] for held in (rows, pairs))  # type: ignore[assignment]
    try:
        windows = np.array(
            [(_seconds(row["start_timestamp"]), _seconds(row["stop_timestamp"])) for row in rows]
        ).reshape(-1, 2)
        frames = {
            name: np.array([int(row[name]) for row in rows], dtype=np.int64) for name in ("start_frame", "stop_frame")
        }
    except ValueError as error:
        raise DataError(f"{file}: a time or frame cannot be read ({error}): take the published file") from error
    verbs, nouns = (np.array([pair[k] for pair in pairs], dtype=np.int64) for k in (0, 1))
    labels = np.array([actions[pair] for pair in pairs], dtype=np.int64)
    names = tuple(f"{verb}:{noun}" for verb, noun in actions)
    found = Listed(
        videos, [row["video_id"] for row in rows], labels, names, windows, {"verb": verbs, "noun": nouns, **frames}
    )
    return _located(found, [(row["video_id"],) for row in rows], videos)


Read = Callable[[Splits, str, Path], Listed]
LAYOUTS: dict[str, tuple[str, Callable[[Path], Splits], Read]] = {
    "kinetics": ("Kinetics", _kinetics_splits, _kinetics),
    "ssv2": ("Something-Something v2", _ssv2_splits, _ssv2),
    "diving48": ("Diving48", _diving_splits, _diving),
    "jester": ("Jester", _jester_splits, _jester),
    "coin": ("COIN", _coin_splits, _coin),
    "epic-kitchens-100": ("EPIC-KITCHENS-100", _epic_splits, _epic),
    "epic-kitchens-100,official": ("EPIC-KITCHENS-100", _epic_splits, lambda s, n, v: _epic(s, n, v, "official")),
}
