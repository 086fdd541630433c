"""A part on trial."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tacit.core.errors import TacitError

__all__ = ["Case", "LawError"]


class LawError(TacitError, AssertionError):
    """A part breaks a law of its role; `law` is its name."""

    def __init__(self, part: str, law: str, found: str) -> None:
        self.law = law
        super().__init__(f"{part} breaks the law {law!r}: {found}")


class Case:
    """The part on trial: its name stands in every finding."""

    def __init__(self, part: object) -> None:
        self.name: str = getattr(part, "__name__", None) or type(part).__name__

    def need(self, holds: object, law: str, found: str) -> None:
        """Raise unless `holds`."""
        if not holds:
            raise LawError(self.name, law, found)

    @contextmanager
    def during(self, law: str) -> Iterator[None]:
        """An exception inside is a breach of `law`."""
        try:
            yield
        except LawError:
            raise
        except Exception as error:  # whatever a part on trial raises is the finding
            raise LawError(self.name, law, f"{type(error).__name__}: {error}") from error
