"""The feed: which samples make which step, and getting them ready in time.

The batch of step s is a function of (seed, s): the s-th slice of the epochs' permutations laid end to end, an epoch being
the whole batches that fit into the data (the rest is left out and differs from epoch to epoch). Micro-batches split the
batch, processes split each micro-batch, so any number of processes sees the same samples in the same step. Noise is drawn
by the views from (seed, epoch, sample id), so who reads a sample, when and where changes nothing.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from tacit.core.errors import DataError, RunError, TacitError
from tacit.core.protocols import Draws, Makes, Source, Views
from tacit.core.random import order
from tacit.core.values import Batch
from tacit.training.trees import map_tensors

__all__ = ["Feed", "Plan", "check_split"]

_AHEAD = 2  # batches made ready before they are asked for, by the thread or by each worker
_CHEAP = 1e-3  # seconds; a thread would cost more than the waiting for a batch that is made faster than this
_TRIES = 4  # costly batches in a row after which the thread starts: the first ones may compile kernels


def check_split(batch: int, accumulate: int, size: int) -> None:
    """Raise RunError unless every micro-batch of every process has the same size."""
    if batch % (accumulate * size):
        raise RunError(
            f"batch: {batch} does not split into accumulate={accumulate} micro-batches over {size} processes: choose a "
            f"multiple of {accumulate * size}"
        )


class Plan:
    """Which samples make a step: n samples, global batches of `batch`, in `accumulate` micro-batches, over `size` processes."""

    def __init__(self, n: int, *, seed: int, batch: int, accumulate: int = 1, rank: int = 0, size: int = 1) -> None:
        if n < batch:
            raise DataError(
                f"a batch of {batch} needs at least {batch} samples, and the data have {n}: choose batch={n} or less"
            )
        check_split(batch, accumulate, size)
        self.n, self.seed, self.batch, self.accumulate, self.rank, self.size = n, seed, batch, accumulate, rank, size
        self._per_epoch, self._share = n // batch, batch // accumulate // size
        self._orders: dict[int, NDArray[np.int64]] = {}

    def at(self, item: int) -> tuple[int, NDArray[np.int64]]:
        """The epoch of micro-batch item % accumulate of step item // accumulate, and this process's samples in it."""
        step, micro = divmod(item, self.accumulate)
        epoch, slot = divmod(step, self._per_epoch)
        if epoch not in self._orders:
            self._orders = {epoch: order(self.seed, epoch, self.n)}
        start = slot * self.batch + (micro * self.size + self.rank) * self._share
        return epoch, self._orders[epoch][start : start + self._share]

    def indices(self, step: int, micro: int = 0) -> NDArray[np.int64]:
        """The samples of this process in one micro-batch of step (from 0) [batch / accumulate / size]."""
        return self.at(step * self.accumulate + micro)[1]


class _Maker(Dataset[Batch]):
    """Item k is micro-batch k % accumulate of step k // accumulate, read and augmented; what a worker process holds."""

    def __init__(self, source: Source, views: Views, plan: Plan) -> None:
        self.source, self.views, self.plan = source, views, plan
        self._drawn = (
            (-1, source) if isinstance(source, Draws) else None
        )  # the epoch whose samples are drawn, and its source

    def _of(self, epoch: int) -> Any:
        """The source as this epoch reads it."""
        if self._drawn is None:
            return self.source
        if self._drawn[0] != epoch:
            self._drawn = (epoch, self.source.at(self.plan.seed, epoch))  # type: ignore[attr-defined]
        return self._drawn[1]

    def __getitem__(self, item: int) -> Batch:
        epoch, rows = self.plan.at(item)
        return _settled(self.views(self._of(epoch).read(rows), self.plan.seed, epoch))


class _Resident(_Maker):
    """The same for images that live on the device as a whole: indexed and augmented there. Ids and labels stay here."""

    def __init__(self, source: Source, views: Views, plan: Plan, device: torch.device) -> None:
        super().__init__(source, views, plan)
        everything = source.read(np.arange(plan.n))
        self.here = dataclasses.replace(everything, views={})
        self.there = {name: map_tensors(view, lambda x: x.to(device)) for name, view in everything.views.items()}
        self.device = device

    def __getitem__(self, item: int) -> Batch:
        epoch, indices = self.plan.at(item)
        rows = torch.from_numpy(indices)
        there = rows.to(self.device, non_blocking=True)
        raw = map_tensors(self.here, lambda x: x[rows])
        pictures = {name: map_tensors(view, lambda x: x[there]) for name, view in self.there.items()}
        return self.views(dataclasses.replace(raw, views=pictures), self.plan.seed, epoch)


class _There(_Maker):
    """The same for samples that are computed: made and augmented on the device, so that nothing but their ids crosses to it."""

    def __init__(self, source: Makes, views: Views, plan: Plan, device: torch.device) -> None:
        super().__init__(source, views, plan)  # type: ignore[arg-type]
        self.device = device

    def __getitem__(self, item: int) -> Batch:
        epoch, rows = self.plan.at(item)
        return self.views(self._of(epoch).make(torch.from_numpy(rows).to(self.device)), self.plan.seed, epoch)


class _Worker(_Maker):
    """The same in a worker process: an expected fault travels back as a value, so that its sentence stays as it is."""

    def __getitem__(self, item: int) -> Any:
        try:
            return super().__getitem__(item)
        except (TacitError, OSError) as error:
            return error


class Feed:
    """Makes the batches of a run, ahead of time.

    workers 0: one background thread reads and augments (compiled kernels and torch free the interpreter meanwhile). On the
    CPU it starts only where making a batch takes more than a millisecond: handing over what is cheaper costs more.
    workers n: n processes do. The batches are the same bit for bit.
    A source with an attribute `images` (a uint8 tensor [n c h w]: it fits in memory) lives on an accelerator as a whole and is
    augmented there, without threads or workers; `resident` overrules this choice. So are samples that a source can `make` there.
    replaced: samples of this process that could not be read and had others in their place, where the source does so.
    """

    def __init__(
        self,
        source: Source,
        views: Views,
        plan: Plan,
        *,
        device: torch.device | str = "cpu",
        workers: int = 0,
        resident: bool | None = None,
    ) -> None:
        self.plan, self.device, self.workers = plan, torch.device(device), workers
        images = getattr(source, "images", None)
        small = isinstance(images, torch.Tensor) and images.dtype == torch.uint8
        self.resident = small and self.device.type != "cpu" if resident is None else resident
        self._parts = source, views, plan
        self.replaced: set[int] = set()
        self._ids: NDArray[np.int64] | None = (
            getattr(source, "ids", None) if getattr(source, "replacing", False) else None
        )

    @contextlib.contextmanager
    def steps(self, start: int, stop: int) -> Iterator[Iterator[tuple[int, list[Batch]]]]:
        """An iterator over (step, its micro-batches on the device) for the steps start..stop-1; ends threads and workers."""
        k = self.plan.accumulate
        items = range(start * k, stop * k)
        pin = self.device.type == "cuda"
        made: contextlib.AbstractContextManager[Iterator[Batch]]
        source, views, plan = self._parts
        if self.resident:
            resident = _Resident(source, views, plan, self.device)
            made = contextlib.nullcontext(resident[item] for item in items)
        elif self.device.type != "cpu" and isinstance(source, Makes):
            there = _There(source, views, plan, self.device)
            made = contextlib.nullcontext(there[item] for item in items)
        elif self.workers:
            made = _by_workers(_Worker(*self._parts), items, self.workers, pin=pin)
        else:
            made = _by_thread(_Maker(*self._parts), items, pin=pin, at_once=self.device.type != "cpu")
        with made as batches:
            yield self._gather(batches, start, stop)

    def _gather(self, batches: Iterator[Batch], start: int, stop: int) -> Iterator[tuple[int, list[Batch]]]:
        here, count = self.device.type == "cpu", self.plan.accumulate  # where they are made
        for step in range(start, stop):
            try:
                micro = list(itertools.islice(batches, count))
                if self._ids is not None:
                    self._note_replaced(self._ids, step, micro)
                if not here:
                    micro = [batch.to(self.device) for batch in micro]
            except (TacitError, OSError) as error:
                raise RunError(f"the data of step {step + 1} could not be read: {error}") from error
            except Exception as error:
                error.add_note(f"raised while the batch of step {step + 1} was made")
                raise
            yield step, micro

    def _note_replaced(self, ids: NDArray[np.int64], step: int, micro: list[Batch]) -> None:
        for i, batch in enumerate(micro):
            wanted = self.plan.indices(step, i)
            self.replaced.update(wanted[ids[wanted] != batch.ids.numpy()].tolist())


def _settled(batch: Batch) -> Batch:
    """Real numbers at addresses that are multiples of 64 bytes: BLAS may round differently elsewhere, and runs must repeat."""
    held = [
        *batch.facts.values()
    ]  # all but the ids and the visible tokens' indices; without a call for each, as every step does this
    for view in batch.views.values():
        held += [view.data] if isinstance(view.data, torch.Tensor) else view.data
        held += view.how.values()
    if batch.action is not None:
        held.append(batch.action)
    for x in held:
        if x.data_ptr() % 64 and x.is_floating_point():
            return map_tensors(batch, _aligned)
    return batch


def _aligned(x: torch.Tensor) -> torch.Tensor:
    return x.clone() if x.data_ptr() % 64 and x.is_floating_point() else x


def _pinned(batch: Batch) -> Batch:
    return map_tensors(batch, torch.Tensor.pin_memory)


@contextlib.contextmanager
def _by_thread(maker: _Maker, items: range, *, pin: bool, at_once: bool) -> Iterator[Iterator[Batch]]:
    """The items in order, made by one thread that works `_AHEAD` of them ahead; without `at_once`, by the caller while cheap."""

    def pinned(item: int) -> Batch:
        return _pinned(maker[item])

    make = pinned if pin else maker.__getitem__

    def cheap(rest: Iterator[int]) -> Iterator[Batch]:
        costly = 0
        while costly < _TRIES and (item := next(rest, None)) is not None:
            start = time.perf_counter()
            batch = make(item)
            costly = costly + 1 if time.perf_counter() - start > _CHEAP else 0
            yield batch

    with ThreadPoolExecutor(1, "tacit-feed") as pool:  # the thread itself starts with the first item that it is given

        def batches() -> Iterator[Batch]:
            rest = iter(items)
            if not at_once:
                yield from cheap(rest)
            ahead = collections.deque(pool.submit(make, item) for item in itertools.islice(rest, _AHEAD))
            while ahead:
                first = ahead.popleft()
                ahead.extend(pool.submit(make, item) for item in itertools.islice(rest, 1))
                yield first.result()

        try:
            yield batches()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


@contextlib.contextmanager
def _by_workers(maker: _Maker, items: range, workers: int, *, pin: bool) -> Iterator[Iterator[Batch]]:
    """The items in order, made by worker processes that end with this context, or with this process, however it ends."""
    # not fork: a copy of a process in which compiled kernels have started threads may hang
    kind = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    context: Any = multiprocessing.get_context(kind)
    if kind == "forkserver":
        context.set_forkserver_preload(["torch"])
    loader = DataLoader(
        maker,
        batch_size=None,
        sampler=items,
        num_workers=workers,
        prefetch_factor=_AHEAD,
        collate_fn=_same,
        worker_init_fn=_start_worker,
        multiprocessing_context=context,
    )
    batches = iter(loader)

    def checked() -> Generator[Batch]:
        for batch in batches:
            if isinstance(batch, Exception):
                raise batch
            yield _pinned(batch) if pin else batch

    outer = checked()
    try:
        yield outer
    finally:
        outer.close()
        del batches, loader  # the end of torch's iterator ends the workers


def _same(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """Signals to the group are for the process that leads it; it ends the workers when the step is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if "numba" in sys.modules:
        sys.modules["numba"].set_num_threads(1)


def _end_with_parent() -> None:
    """End this worker when the process that asked for it dies. torch watches the fork server, which lives while workers do."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
