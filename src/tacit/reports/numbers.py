"""How numbers are written: as many digits as their interval supports, a true minus sign, never without their card."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

__all__ = [
    "DASH",
    "Difference",
    "Result",
    "Style",
    "clear_of",
    "counted",
    "decimals",
    "interval",
    "join",
    "short",
    "signed",
    "written",
]

NAN = float("nan")
DASH = "–"  # what was not measured


@dataclass(frozen=True)
class Difference:
    """A paired difference to the baseline `to`, in the units of the result, with its interval."""

    to: str
    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        _check_interval(f"the difference to {self.to!r}", self.value, self.low, self.high)

    @property
    def clear(self) -> bool:
        """Whether the interval leaves out zero."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True, kw_only=True)
class Result:
    """One measured number with its card.

    value, low, high: the number and its interval, as fractions where the table shows percent. n: items measured.
    seeds: how often training or drawing of labels was repeated. chance: what guessing reaches, None where it has no meaning.
    Refused without an interval or n: a number carries its card.
    """

    model: str
    protocol: str
    value: float
    low: float = NAN
    high: float = NAN
    n: int = 0
    seeds: int = 1
    chance: float | None = None
    differences: tuple[Difference, ...] = ()

    def __post_init__(self) -> None:
        what = f"{self.protocol!r} of {self.model!r}"
        _check_interval(what, self.value, self.low, self.high)
        if self.n < 1:
            raise ValueError(f"a number carries its card: {what} has no n. Say over how many items it was measured.")
        if self.seeds < 1:
            raise ValueError(f"a number carries its card: {what} has seeds={self.seeds}. Give at least 1.")
        object.__setattr__(self, "differences", tuple(self.differences))

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Result:
        """A result from a mapping with the names of the fields; `differences` may hold mappings too."""
        known = {field.name for field in fields(cls)}
        if odd := sorted(set(row) - known):
            raise ValueError(f"a result has no field {odd[0]!r}: it has {', '.join(sorted(known))}.")
        if lacking := sorted({"model", "protocol", "value"} - set(row)):
            raise ValueError(f"a result names its {lacking[0]}; found only {', '.join(sorted(row)) or 'nothing'}.")
        values = dict(row)
        given = values.pop("differences", ())
        differences = tuple(d if isinstance(d, Difference) else Difference(**d) for d in given)
        return cls(**values, differences=differences)


def _check_interval(what: str, value: float, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ValueError(
            f"a number carries its card: {what} has no interval. Give low and high, or leave the number out."
        )
    if not math.isfinite(value):
        raise ValueError(f"{what} is {value}: leave a number out that was not measured.")
    slack = 1e-9 * max(1.0, abs(low), abs(high))  # the ends of an interval at 0 or 1 carry rounding
    if not low - slack <= value <= high + slack:
        raise ValueError(f"{what}: the value {value:g} lies outside its interval [{low:g}, {high:g}].")


def clear_of(best: Result, others: Iterable[Result], *, higher: bool = True) -> bool:
    """Whether the interval of `best` lies wholly beyond the interval of every other result."""
    return all(best.low > other.high if higher else best.high < other.low for other in others)


def decimals(bounds: Iterable[tuple[float, float]], *, percent: bool) -> int:
    """Digits after the point for numbers with these intervals (low, high).

    Percent: 0 where every half-width is 10 points or more, 2 where every one is below 0.1, else 1. Other units: two
    significant digits of the smallest half-width, at most 6.
    """
    halves = [(high - low) / 2 * (100 if percent else 1) for low, high in bounds]
    positive = [half for half in halves if half > 0]
    if percent:
        if not positive:
            return 1
        return 0 if min(positive) >= 10 else 2 if max(positive) < 0.1 else 1
    if not positive:
        return 3
    return min(6, max(0, 1 - math.floor(math.log10(min(positive)))))


def written(value: float, places: int, *, percent: bool = False) -> str:
    """The number alone, without the percent sign: '91.2', '−0.3'."""
    text = f"{value * (100 if percent else 1):.{places}f}"
    if float(text) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "−")


def signed(value: float, places: int, *, percent: bool = False) -> str:
    """The same with a sign: '+10.9', '−0.3', '±0.0' for what rounds to zero."""
    text = written(value, places, percent=percent)
    return text if text.startswith("−") else ("±" if float(text) == 0 else "+") + text


def interval(low: float, high: float, places: int, *, percent: bool = False) -> str:
    """'[90.1, 92.3]'."""
    return f"[{written(low, places, percent=percent)}, {written(high, places, percent=percent)}]"


def short(value: float) -> str:
    """A number without an interval (a loss, a setting) in four significant digits; 'not finite' said in words."""
    if not math.isfinite(value):
        return "not finite"
    return f"{value:.4g}".replace("-", "−")


@dataclass(frozen=True)
class Style:
    """How the results of one table are written: the same number of digits for all, so that they can be compared by eye."""

    percent: bool
    places: int

    @classmethod
    def of(cls, results: Iterable[Result], *, percent: bool) -> Style:
        """The style that the intervals of these results support."""
        return cls(percent, decimals([(r.low, r.high) for r in results], percent=percent))

    def plain(self, value: float) -> str:
        """'91.2 %'."""
        return written(value, self.places, percent=self.percent) + (" %" if self.percent else "")

    def bounds(self, result: Result | Difference) -> str:
        """'[90.1, 92.3]', in the units of the number."""
        return interval(result.low, result.high, self.places, percent=self.percent)

    def cell(self, result: Result | None) -> str:
        """'91.2 % [90.1, 92.3]', a dash where nothing was measured."""
        return DASH if result is None else f"{self.plain(result.value)} {self.bounds(result)}"

    def carded(self, result: Result | None) -> str:
        """The same with n and the seeds, for a cell that stands alone."""
        return DASH if result is None else f"{self.cell(result)}, n = {result.n}, {counted(result.seeds, 'seed')}"

    def chance(self, result: Result) -> str:
        """'10.0 %', a dash where guessing has no meaning."""
        return DASH if result.chance is None else self.plain(result.chance)

    def difference(self, difference: Difference | None, unit: str = "") -> str:
        """'+10.9 [9.2, 12.5]', percent points where the results are percent; `unit` follows the number."""
        if difference is None:
            return DASH
        return f"{signed(difference.value, self.places, percent=self.percent)}{unit} {self.bounds(difference)}"


def counted(number: int, noun: str) -> str:
    """'1 seed', '5 seeds'."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def join(words: Sequence[str]) -> str:
    """'a', 'a and b', 'a, b and c'."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
