"""What a part of each role must offer. Structural types: a class that has these methods is such a part, no base class."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from tacit.core.ranks import Ranks
    from tacit.core.values import Batch, Facts, Features, Score

__all__ = [
    "Distils",
    "Draws",
    "Encodes",
    "Imagines",
    "Judge",
    "Makes",
    "Objective",
    "Predicts",
    "Source",
    "System",
    "Views",
]


@runtime_checkable
class Source(Protocol):
    """Samples by index. Sample i has the same id and content in every process; `read` is safe in threads and workers."""

    facts: Facts

    def __len__(self) -> int: ...

    def digest(self) -> str:
        """Hexadecimal digits that change when the samples do; the key of cached features."""
        ...

    def read(self, indices: Sequence[int] | NDArray[np.int64]) -> Batch:
        """Batch with the one view 'image' (raw: uint8 or float [n c h w], or a list where sizes differ); facts has 'label' if known."""
        ...


@runtime_checkable
class Draws(Protocol):
    """A source that draws what an epoch reads: clips of videos, samples of a mixture. Its own `read` draws nothing."""

    def at(self, seed: int, epoch: int) -> Source:
        """The source of this epoch: as long, and a function of (seed, epoch)."""
        ...


@runtime_checkable
class Makes(Protocol):
    """A source that computes its samples and can do so on an accelerator: what `read` gives, but for rounding, nothing copied."""

    def make(self, ids: Tensor) -> Batch:
        """The samples of these ids (int64 [n]), on the device of the ids."""
        ...


@runtime_checkable
class Views(Protocol):
    """Makes the views of a batch. Noise is a function of (seed, epoch, sample id, view); all parameters are recorded."""

    names: tuple[str, ...]
    facts: Facts  # of the samples after the views: the shape an encoder will see

    def __call__(self, batch: Batch, seed: int, epoch: int) -> Batch: ...

    def plain(self, batch: Batch) -> Batch:
        """The deterministic evaluation view 'image' of the same size and normalisation, no noise."""
        ...


@runtime_checkable
class Encodes(Protocol):
    """An encoder: an nn.Module on [n c h w] (or what its family takes), of feature width `dim`."""

    dim: int

    def __call__(self, x: Tensor, keep: Tensor | None = None) -> Features: ...

    def layers(self, x: Tensor, which: Sequence[str]) -> list[Tensor]:
        """Pooled outputs [n d_l] of the named layers, in that order."""
        ...

    def layer_names(self) -> list[str]: ...


@runtime_checkable
class Objective(Protocol):
    """A criterion on two views' embeddings. `ranks_kind` says how it behaves across ranks:

    'per-sample': a mean over samples, exact under gradient averaging; 'global': sums statistics inside by ranks.total;
    'gather': needs the embeddings of all ranks by ranks.gather.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]]

    def __call__(self, a: Tensor, b: Tensor, ranks: Ranks = ...) -> dict[str, Tensor]:
        """Named terms; 'loss' is what is minimised."""
        ...


@runtime_checkable
class Distils(Protocol):
    """An objective with a direction: a student's output against a teacher's, which gets no gradient.

    Called as an objective, `a` is the student's and `b` the teacher's. A system calls `target` once for each teacher view,
    `compare` for each pair, and `remember` once a step in train mode after all of them. `progress` is that of the run.
    """

    ranks_kind: ClassVar[Literal["per-sample", "global", "gather"]]
    reads: ClassVar[Literal["embeddings", "scores"]]  # what it compares: any embedding, or the scores of prototypes

    def __call__(self, a: Tensor, b: Tensor, ranks: Ranks = ..., progress: float = ...) -> dict[str, Tensor]: ...

    def target(self, teacher: Tensor, ranks: Ranks = ..., progress: float = ...) -> Tensor: ...

    def compare(self, student: Tensor, target: Tensor, ranks: Ranks = ...) -> dict[str, Tensor]: ...

    def remember(self, teacher: Sequence[Tensor], ranks: Ranks = ...) -> None: ...


@runtime_checkable
class System(Protocol):
    """The wiring of a method: an nn.Module."""

    def embed(self, x: Tensor) -> Features:
        """The representation: what probes read."""
        ...

    def project(self, x: Tensor) -> Tensor:
        """The embedding [n d] that the loss sees: what label-free criteria judge."""
        ...

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ...) -> dict[str, Tensor]:
        """Named scalar terms; 'loss' is minimised. `forward` is the same, so that DDP and FSDP can wrap the system."""
        ...

    def groups(self) -> Iterable[Mapping[str, Any]]:
        """Parameter groups: {'params': [...], 'decay': bool, 'scale': rate multiplier, 'scheduled': False to keep the peak rate}."""
        ...

    def after_step(self, progress: float) -> None: ...


@runtime_checkable
class Predicts(Protocol):
    """Can say how well y follows from x under an action: what surprise, retrieval and planning ask for."""

    def energy(self, x: Tensor, action: Tensor | None, y: Tensor) -> Tensor:
        """[n], lower is better."""
        ...


@runtime_checkable
class Imagines(Protocol):
    """Can roll a state forward under actions."""

    def imagine(self, z0: Tensor, actions: Tensor) -> Tensor:
        """z0 [s ...], actions [s h a] -> states [s h ...]."""
        ...


@runtime_checkable
class Judge(Protocol):
    """A streaming statistic of embeddings, mergeable over ranks."""

    def update(self, z: Tensor) -> None: ...

    def merge(self, ranks: Ranks) -> None:
        """Add what the other ranks have seen."""
        ...

    def compute(self) -> Score: ...
