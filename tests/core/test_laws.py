"""The public checkers: sound parts pass, and each law catches the part that breaks it alone."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

from tacit.core.errors import UnknownNameError, unknown
from tacit.core.laws import LawError, check_encoder, check_objective, check_source
from tacit.core.ranks import ALONE
from tacit.core.values import Batch, Facts, Features, View


def law_broken(check, part, **more):
    with pytest.raises(LawError) as caught:
        check(part, **more)
    assert str(caught.value).startswith(f"{part.__name__} breaks the law {caught.value.law!r}: ")
    return caught.value.law


# --- objectives -----------------------------------------------------------------------------------------------------


class Sound(nn.Module):
    """Invariance and a global variance, as a third party would write it."""

    ranks_kind = "global"

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.tensor(2.0, dtype=torch.float64))

    def forward(self, a, b, ranks=ALONE):
        with torch.autocast("cpu", enabled=False):
            return {"loss": self.criterion(*((z if z.dtype == torch.float64 else z.float()) for z in (a, b)), ranks)}

    def criterion(self, a, b, ranks):
        n = len(a) * ranks.size
        mean = ranks.total(a.sum(0)) / n
        variance = ranks.total((a - mean).square().sum(0)) / n
        apart = ranks.total((a - b).square().mean()) / ranks.size
        return (apart + (self.weight.to(a.dtype) - variance).square().mean()).to(a.dtype)


class Pull(Sound):
    ranks_kind = "per-sample"

    def criterion(self, a, b, ranks):
        return (a - b).square().mean()


class Contrast(Sound):
    ranks_kind = "gather"

    def criterion(self, a, b, ranks):
        a, b = ranks.gather(a), ranks.gather(b)
        s = a @ b.T
        return nn.functional.cross_entropy(s, torch.arange(len(s)))


class StopsGradient(Pull):
    def criterion(self, a, b, ranks):
        return (a - b.detach()).square().mean()


class NotAModule:
    ranks_kind = "global"


class Undeclared(Sound):
    ranks_kind = "sometimes"


class NoLoss(Sound):
    def forward(self, a, b, ranks=ALONE):
        return {"total": (a - b).square().mean()}


class VectorTerm(Sound):
    def forward(self, a, b, ranks=ALONE):
        return {"loss": (a - b).square().mean(), "each": (a - b).square().mean(1)}


class LosesDtype(Sound):
    def criterion(self, a, b, ranks):
        return super().criterion(a, b, ranks).float()


class InfiniteAtCollapse(Pull):
    def criterion(self, a, b, ranks):
        return (a - b).square().mean() - a.var(0).mean().log()


class InfiniteGradient(Pull):
    def criterion(self, a, b, ranks):
        return (a - b).square().sum().sqrt()


class NoGradient(Pull):
    def criterion(self, a, b, ranks):
        return super().criterion(a, b, ranks).detach()


class WrongGradient(Pull):
    def criterion(self, a, b, ranks):
        value = super().criterion(a, b, ranks)
        return value.detach() + (value - value.detach()) / 2


class CountsCalls(Pull):
    calls = 0

    def criterion(self, a, b, ranks):
        CountsCalls.calls += 1
        return super().criterion(a, b, ranks) + CountsCalls.calls


class WritesOnInput(Pull):
    def criterion(self, a, b, ranks):
        value = super().criterion(a, b, ranks)
        with torch.no_grad():
            a.data.clamp_(-1, 1)
        return value


class SeesOrder(Pull):
    def criterion(self, a, b, ranks):
        return ((a - b).square().mean(1) * torch.arange(len(a))).mean()


class HalfUnderAutocast(Pull):
    def forward(self, a, b, ranks=ALONE):
        return {"loss": (a @ b.T).square().mean()}


class DividesByZero(Pull):
    def criterion(self, a, b, ranks):
        return (a - b).square().sum() / (len(a) * ranks.size - 1) + 0 * a.sum()


class KeepsStateInPython(Pull):
    made = 0

    def __init__(self):
        super().__init__()
        KeepsStateInPython.made += 1
        self.factor = float(KeepsStateInPython.made)

    def criterion(self, a, b, ranks):
        return self.factor * super().criterion(a, b, ranks)


class LocalStatistic(Sound):
    """Batch variance of each rank alone: the wrong gradient that public codes have shipped."""

    def criterion(self, a, b, ranks):
        return super().criterion(a, b, ALONE) + 0 * ranks.total(a.sum())


class PlainAllReduce(Sound):
    """The value crosses ranks and the gradient does not."""

    def criterion(self, a, b, ranks):
        n = len(a) * ranks.size
        mean = _plain(ranks, a.sum(0)) / n
        return _plain(ranks, (a - mean).square().sum()) / n


def _plain(ranks, x):
    return x + (ranks.total(x.detach()) - x).detach()


class DeclaresGatherForNothing(Pull):
    ranks_kind = "gather"


class UnevenExchange(Sound):
    def criterion(self, a, b, ranks):
        if ranks.rank == 1:
            raise RuntimeError("rank 1 is not well")
        return super().criterion(a, b, ranks)


@pytest.mark.parametrize("part", [Sound, Pull, Contrast])
def test_sound_objectives_pass(part):
    check_objective(part)


def test_stopped_gradients_pass_when_announced():
    check_objective(StopsGradient, exact_gradient=False)
    assert law_broken(check_objective, StopsGradient) == "gradient"


@pytest.mark.parametrize(
    ("part", "law"),
    [
        (NotAModule, "is a module"),
        (Undeclared, "declares ranks_kind"),
        (NoLoss, "named terms"),
        (VectorTerm, "named terms"),
        (LosesDtype, "dtype"),
        (InfiniteAtCollapse, "finite"),
        (InfiniteGradient, "finite gradient"),
        (NoGradient, "gradient"),
        (WrongGradient, "gradient"),
        (CountsCalls, "repeatable"),
        (WritesOnInput, "leaves its input alone"),
        (SeesOrder, "order of samples"),
        (HalfUnderAutocast, "float32 under autocast"),
        (DividesByZero, "one sample"),
        (KeepsStateInPython, "state round trip"),
        (LocalStatistic, "two ranks"),
        (PlainAllReduce, "two ranks"),
        (DeclaresGatherForNothing, "declares ranks_kind"),
        (UnevenExchange, "two ranks"),
    ],
)
def test_each_law_catches_its_broken_objective(part, law):
    assert law_broken(check_objective, part) == law


@pytest.mark.compile
def test_a_graph_break_is_caught():
    class Breaks(Pull):
        def criterion(self, a, b, ranks):
            value = super().criterion(a, b, ranks)
            return value if float(value.detach()) > 1 else 2 * value / 2

    assert law_broken(check_objective, Breaks, compiles=True) == "compiles"


# --- encoders -------------------------------------------------------------------------------------------------------


class SoundEncoder(nn.Module):
    def __init__(self, facts):
        super().__init__()
        self.dim = 5
        self.convolution = nn.Conv2d(facts.channels, 5, 4, stride=4)
        self.norm = nn.BatchNorm2d(5)

    def map(self, x):
        return self.norm(self.convolution(x)).relu()

    def forward(self, x, keep=None):
        x = self.map(x)
        return Features(x.mean((2, 3)), x.flatten(2).transpose(1, 2), tuple(x.shape[2:]))

    def layers(self, x, which):
        found = {"convolution": self.convolution(x).mean((2, 3)), "map": self.map(x).mean((2, 3))}
        for name in which:
            if name not in found:
                raise UnknownNameError(unknown("layer", name, found))
        return [found[name] for name in which]

    def layer_names(self):
        return ["convolution", "map"]


class LiesAboutDim(SoundEncoder):
    def __init__(self, facts):
        super().__init__(facts)
        self.dim = 6


class NoDim(SoundEncoder):
    def __init__(self, facts):
        super().__init__(facts)
        del self.dim


class ReturnsTensor(SoundEncoder):
    def forward(self, x, keep=None):
        return super().forward(x).pooled if not self.training else super().forward(x)


class WrongGrid(SoundEncoder):
    def forward(self, x, keep=None):
        found = super().forward(x)
        return Features(found.pooled, found.tokens, (3, 3))


class NoiseInEval(SoundEncoder):
    def forward(self, x, keep=None):
        found = super().forward(x)
        return Features(found.pooled + 1e-3 * torch.randn(found.pooled.shape))


class BatchStatisticsInEval(SoundEncoder):
    def forward(self, x, keep=None):
        found = super().forward(x)
        return Features(found.pooled - found.pooled.mean(0))


class SeesOrderOfImages(SoundEncoder):
    def forward(self, x, keep=None):
        found = super().forward(x)
        return Features(found.pooled + torch.arange(len(x))[:, None])


class FixedOrderOfLayers(SoundEncoder):
    def layers(self, x, which):
        return super().layers(x, sorted(which))


class UnpooledLayers(SoundEncoder):
    def layers(self, x, which):
        return [self.map(x) for _ in super().layers(x, which)]


class AnyLayerName(SoundEncoder):
    def layers(self, x, which):
        return super().layers(x, [name if name in self.layer_names() else "map" for name in which])


class DoubleNames(SoundEncoder):
    def layer_names(self):
        return ["map", "map"]


class ForgetsState(SoundEncoder):
    def __init__(self, facts):
        super().__init__(facts)
        self.shift = torch.randn(5)  # neither parameter nor buffer

    def forward(self, x, keep=None):
        found = super().forward(x)
        return Features(found.pooled + self.shift, found.tokens, found.grid)


class FrozenEncoder(SoundEncoder):
    def __init__(self, facts):
        super().__init__(facts)
        self.requires_grad_(False)


class OneChannelOnly(SoundEncoder):
    def __init__(self, facts):
        super().__init__(Facts(channels=1))


def test_a_sound_encoder_passes():
    check_encoder(SoundEncoder)
    check_encoder(SoundEncoder, facts=Facts(channels=1, shape=(8, 12)))


@pytest.mark.parametrize(
    ("part", "law"),
    [
        (LiesAboutDim, "shape"),
        (NoDim, "has dim"),
        (ReturnsTensor, "returns Features"),
        (WrongGrid, "shape"),
        (NoiseInEval, "deterministic in eval"),
        (BatchStatisticsInEval, "each image by itself"),
        (SeesOrderOfImages, "order of samples"),
        (FixedOrderOfLayers, "layers"),
        (UnpooledLayers, "layers"),
        (AnyLayerName, "layers"),
        (DoubleNames, "layer names"),
        (ForgetsState, "state round trip"),
        (FrozenEncoder, "gradient"),
        (OneChannelOnly, "runs"),
    ],
)
def test_each_law_catches_its_broken_encoder(part, law):
    assert law_broken(check_encoder, part) == law


# --- sources --------------------------------------------------------------------------------------------------------


class SoundSource:
    facts = Facts(channels=1, shape=(2, 3), classes=("even", "odd"), factors=("size",))

    def __len__(self):
        return 20

    def digest(self):
        return "c0ffee"

    def images(self, indices):
        return (torch.arange(6).reshape(1, 1, 2, 3) + 10 * indices[:, None, None, None]).to(torch.uint8)

    def ids(self, indices):
        return indices + 1000

    def read(self, indices):
        indices = torch.as_tensor(indices, dtype=torch.int64)
        facts = {"label": indices % 2, "size": indices / 20}
        return Batch({"image": View(self.images(indices))}, self.ids(indices), facts=facts)


class Ragged(SoundSource):
    facts = Facts(channels=1, classes=("even", "odd"), factors=("size",))

    def images(self, indices):
        return [torch.full((1, 2, 3 + int(i) % 2), int(i), dtype=torch.uint8) for i in indices]


class Empty(SoundSource):
    def __len__(self):
        return 0


class NoFacts(SoundSource):
    facts = None


class DigestOfTheMoment(SoundSource):
    calls = 0

    def digest(self):
        DigestOfTheMoment.calls += 1
        return f"{DigestOfTheMoment.calls:x}"


class DigestInWords(SoundSource):
    def digest(self):
        return "the same as ever"


class SameIds(SoundSource):
    def ids(self, indices):
        return torch.zeros_like(indices)


class ShortIds(SoundSource):
    def ids(self, indices):
        return indices.to(torch.int32)


class OtherChannels(SoundSource):
    def images(self, indices):
        return super().images(indices).expand(-1, 3, -1, -1)


class OtherShape(SoundSource):
    def images(self, indices):
        return super().images(indices).transpose(2, 3)


class FloatOutOfRange(SoundSource):
    def images(self, indices):
        return super().images(indices).float()


class DoubleImages(SoundSource):
    def images(self, indices):
        return super().images(indices).double() / 255


class LabelsBeyondClasses(SoundSource):
    facts = Facts(channels=1, shape=(2, 3), classes=("one",))


class MissingFactor(SoundSource):
    facts = Facts(channels=1, shape=(2, 3), factors=("weight",))


class SortsIndices(SoundSource):
    def read(self, indices):
        return super().read(sorted(indices))


class NoiseInImages(SoundSource):
    def images(self, indices):
        return torch.randint(0, 255, (len(indices), 1, 2, 3)).to(torch.uint8)


class NormalisesByBatch(SoundSource):
    def images(self, indices):
        images = super().images(indices).float()
        return images / images.max().clamp_min(1)


class OutOfRangeAtTheEnd(SoundSource):
    def read(self, indices):
        if max(indices) > 18:
            raise IndexError("list index out of range")
        return super().read(indices)


class ListsOnly(SoundSource):
    def read(self, indices):
        if not isinstance(indices, list):
            raise TypeError("indices must be a list")
        return super().read(indices)


class OpenHandle(SoundSource):
    def __init__(self):
        self.handle = (i for i in range(3))  # as little picklable as an open file


class SharedCursor(SoundSource):
    """Remembers where it is between two steps of a read: right alone, wrong in threads."""

    def read(self, indices):
        import time

        self.at = indices
        time.sleep(0.001)
        return super().read(self.at)


@pytest.mark.parametrize("part", [SoundSource, Ragged])
def test_sound_sources_pass(part):
    check_source(part)
    check_source(part())
    check_source(part, samples=3)


@pytest.mark.parametrize(
    ("part", "law"),
    [
        (Empty, "length"),
        (NoFacts, "has facts"),
        (DigestOfTheMoment, "digest"),
        (DigestInWords, "digest"),
        (SameIds, "ids"),
        (ShortIds, "ids"),
        (OtherChannels, "facts"),
        (OtherShape, "facts"),
        (FloatOutOfRange, "range"),
        (DoubleImages, "dtype"),
        (LabelsBeyondClasses, "labels"),
        (MissingFactor, "facts"),
        (SortsIndices, "order"),
        (NoiseInImages, "repeatable"),
        (NormalisesByBatch, "each sample by itself"),
        (OutOfRangeAtTheEnd, "runs"),
        (ListsOnly, "numpy indices"),
        (OpenHandle, "pickles"),
        (SharedCursor, "threads"),
    ],
)
def test_each_law_catches_its_broken_source(part, law):
    assert law_broken(check_source, part) == law


def test_the_laws_import_torch_only_when_they_are_applied():
    code = "import sys, tacit.core.laws; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
