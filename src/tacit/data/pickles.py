"""Reading the pickles of CIFAR without running what a pickle can run.

A pickle is a program: it names functions and calls them. Here no name is ever looked up. The four names that a pickle of
dicts, lists, text and byte arrays uses are answered with stand-ins of this file that can only hold bytes; every other name is
refused before anything is called.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tacit.core.errors import DataError
from tacit.data.checks import permitted

__all__ = ["Array", "read_pickle"]


class _Type:
    """Stands in for numpy.dtype."""

    def __init__(self, name: object, *_: object) -> None:
        self.name = name.decode("latin1") if isinstance(name, bytes) else str(name)

    def __setstate__(self, state: object) -> None:
        """Byte order and the like: single bytes have none."""


class Array:
    """Stands in for numpy.ndarray: a shape and its bytes, uint8 only."""

    def __init__(self, *_: object) -> None:
        self._shape: tuple[int, ...] = ()
        self._bytes = b""

    def __setstate__(self, state: object) -> None:
        """(version, shape, type, Fortran order, bytes), as numpy writes it."""
        match state:
            case (int(), tuple(shape), _Type(name="u1" | "|u1"), bool() | int() as fortran, bytes(raw)) if not fortran:
                if all(isinstance(extent, int) and extent >= 0 for extent in shape):
                    self._shape, self._bytes = shape, raw
                    return
        raise pickle.UnpicklingError("it holds an array that is not plain uint8")

    def numpy(self) -> NDArray[np.uint8]:
        """The values, read-only."""
        return np.frombuffer(self._bytes, dtype=np.uint8).reshape(self._shape)


def _encode(text: object, encoding: object = "latin1") -> bytes:
    """Stands in for _codecs.encode, by which Python 3 writes bytes for Python 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"it encodes text as {encoding!r}")
    return text.encode("latin1")


def _reconstruct(*_: object) -> Array:
    """Stands in for numpy's function of that name: an empty array, filled by __setstate__."""
    return Array()


_STAND_INS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    ("numpy", "ndarray"): Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """A stand-in, or a refusal: nothing is imported."""
        if (module, name) not in _STAND_INS:
            raise pickle.UnpicklingError(f"it asks to run {module}.{name}, which no data set needs")
        return _STAND_INS[module, name]

    def persistent_load(self, pid: object) -> Any:  # noqa: ARG002 (the name is pickle's)
        """Refused: nothing outside the file is looked up."""
        raise pickle.UnpicklingError("it refers to objects outside the file")


def read_pickle(path: Path) -> dict[bytes, Any]:
    """The dict in a CIFAR pickle, with the byte keys of the Python 2 that wrote it. Raises DataError, one sentence."""
    try:
        with permitted(path), path.open("rb") as file:
            content = _Reader(file, encoding="bytes").load()
    except pickle.UnpicklingError as error:
        if "asks to run" in str(error):
            raise DataError(
                f"{path}: refused, {error}: this is not a published CIFAR file; delete it and extract the archive again"
            ) from error
        raise DataError(_damaged(path, error)) from error
    except DataError:
        raise
    except (EOFError, ValueError, TypeError, IndexError, KeyError, AttributeError, OverflowError, MemoryError) as error:
        raise DataError(_damaged(path, error)) from error
    if not isinstance(content, dict):
        raise DataError(
            f"{path}: holds a {type(content).__name__} where CIFAR files hold a dict: extract the archive again"
        )
    return {key.encode("latin1") if isinstance(key, str) else key: value for key, value in content.items()}


def _damaged(path: Path, error: BaseException) -> str:
    size = path.stat().st_size
    return f"{path}: damaged or cut short, {size} bytes are no whole pickle ({error}): extract the archive again"
