"""A frozen encoder of video before a language model: what is seen becomes tokens that it reads before the question.

Legend: n samples, k tokens of a clip, t tokens of text, d features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import CheckpointError, DataError, RecipeError
from tacit.core.parts import part
from tacit.core.ranks import ALONE, Ranks
from tacit.core.spec import EncoderSpec, Role, Spec
from tacit.core.values import Batch, Facts
from tacit.models.weights import load_weights
from tacit.ops.text import unpacked
from tacit.training import checkpoint

__all__ = ["VideoLanguage"]

_ENCODER = Spec("encoder", "vit", size="large", tubelet=2, pooling="mean", class_token=False, positions="rope")
_BRIDGE, _LANGUAGE = Spec("bridge", "mlp"), Spec("language", "causal")


@part("system", "video-language")
class VideoLanguage(nn.Module):
    """Answer questions about a clip: language(bridge(encoder(clip)), question) -> answer, as LLaVA does with pictures.

        loss = mean over samples of the mean over the answer's tokens (its end among them) of -log p(token | clip, question, those before)

    The encoder never learns. trains 'bridge' holds the language model as well (the first stage, on captions), 'all' does not (the stages
    after it). `start`: a run folder whose bridge and language model this one begins with. `after_question` stands between question and
    answer. Questions and answers are read from the facts `question` and `answer`, texts as bytes (`tacit.ops.text`).

    `energy` is -log p(answer) a token. Source: arXiv 2506.09985, section 5 (V-JEPA 2 with Qwen2-7B and Llama-3.1-8B).
    """

    def __init__(
        self,
        facts: Facts,
        *,
        encoder: EncoderSpec = _ENCODER,
        bridge: Annotated[Spec, Role("bridge")] = _BRIDGE,
        language: Annotated[Spec, Role("language")] = _LANGUAGE,
        trains: Literal["bridge", "all"] = "all",
        after_question: str = "\n",
        weights: str = "",
        start: str = "",
    ) -> None:
        super().__init__()
        self.encoder = encoder.build(facts)
        if not hasattr(self.encoder, "grid_of") or facts.shape is None:
            raise RecipeError(
                "system 'video-language' reads an encoder's tokens of clips of one size: take encoder=vit and resize in the views"
            )
        if weights:
            path = Path(weights)
            load_weights(self.encoder, path / "model.safetensors" if path.is_dir() else path)
        self.encoder.requires_grad_(False).eval()
        self.language = language.build()
        count = 1
        for size in self.encoder.grid_of(*facts.shape):
            count *= size
        self.bridge = bridge.build(self.encoder.dim, self.language.dim, count)
        self.trains, self.after_question = trains, after_question
        if trains == "bridge":
            self.language.requires_grad_(False)
        if start:
            self._begin_from(Path(start))

    def _begin_from(self, folder: Path) -> None:
        """Bridge and language model of a run; every tensor must fit."""
        steps = checkpoint.saved_steps(folder)
        if not steps:
            raise CheckpointError(
                f"{folder} holds no checkpoint to start from: name a run folder of system 'video-language'"
            )
        given = checkpoint.read(checkpoint.place(folder, steps[0]))["system"]
        own = {name: value for name, value in given.items() if not name.startswith("encoder.")}
        expected = {name: value.shape for name, value in self.state_dict().items() if not name.startswith("encoder.")}
        odd = sorted(
            name for name in own.keys() | expected.keys() if name not in own or expected.get(name) != own[name].shape
        )
        if odd:
            raise CheckpointError(
                f"{folder}: bridge or language model differ, {odd[0]} and {len(odd) - 1} more: start from a run of the same"
            )
        self.load_state_dict(own, strict=False)

    # what is read

    def see(self, x: Float[Tensor, "n c f h w"]) -> Float[Tensor, "n k d"]:
        """Clips as tokens of the language model."""
        with torch.no_grad():
            tokens = self.encoder(x).tokens
        return self.bridge(tokens)  # type: ignore[no-any-return]

    def _texts(self, batch: Batch) -> tuple[Tensor, list[str], list[str]]:
        x = batch.views["image"].data
        if not isinstance(x, Tensor) or "question" not in batch.facts or "answer" not in batch.facts:
            raise DataError(
                "system 'video-language' needs clips of one size with the facts `question` and `answer`: take data=clip-questions or "
                "data=video-questions"
            )
        return x, unpacked(batch.facts["question"]), unpacked(batch.facts["answer"])

    def likelihood(self, seen: Tensor, questions: list[str], answers: list[str]) -> Float[Tensor, " n"]:
        """log p(answer | clip, question), the mean over the answer's tokens and its end, of clips that were seen [n k d]."""
        tokens, device = self.language.tokens, seen.device
        asked = [tokens.encode(question + self.after_question) for question in questions]
        told = [[*tokens.encode(answer), tokens.end] for answer in answers]
        length = max(len(a) + len(b) for a, b in zip(asked, told, strict=True))
        ids = torch.full((len(asked), length), tokens.end, dtype=torch.int64)
        counted, real = torch.zeros(len(asked), length), torch.zeros(len(asked), length, dtype=torch.int64)
        for i, (a, b) in enumerate(zip(asked, told, strict=True)):
            ids[i, : len(a) + len(b)] = torch.tensor([*a, *b])
            counted[i, len(a) : len(a) + len(b)] = 1 / len(b)
            real[i, : len(a) + len(b)] = 1
        ids, counted, real = ids.to(device), counted.to(device), real.to(device)
        inputs = torch.cat([seen, self.language.embed(ids).to(seen.dtype)], 1)
        logits = self.language(inputs, torch.cat([real.new_ones(seen.shape[:2]), real], 1))[:, seen.shape[1] - 1 : -1]
        each = F.cross_entropy(logits.float().flatten(0, 1), ids.flatten(), reduction="none").view_as(counted)
        return -(each * counted).sum(1)

    def loss(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:  # noqa: ARG002
        """'loss': -log p a token, the mean over samples."""
        x, questions, answers = self._texts(batch)
        return {"loss": -self.likelihood(self.see(x), questions, answers).mean()}

    def forward(self, batch: Batch, progress: float, ranks: Ranks = ALONE) -> dict[str, Tensor]:
        """The same as `loss`, so that DDP and FSDP can wrap the system."""
        return self.loss(batch, progress, ranks)

    @torch.no_grad()
    def answers(
        self, x: Float[Tensor, "n c f h w"], questions: list[str], most: Annotated[int, Ge(1)] = 96
    ) -> list[str]:
        """The likeliest answers, token by token; questions of one length are answered together."""
        seen, tokens = self.see(x), self.language.tokens
        asked = [tokens.encode(question + self.after_question) for question in questions]
        out = [""] * len(asked)
        for length in sorted({len(one) for one in asked}):
            rows = [i for i, one in enumerate(asked) if len(one) == length]
            given = self.language.embed(torch.tensor([asked[i] for i in rows], device=seen.device))
            written = self.language.write(torch.cat([seen[rows], given.to(seen.dtype)], 1), most)
            for i, text in zip(rows, written, strict=True):
                out[i] = text
        return out

    def energy(self, x: Float[Tensor, "n c f h w"], action: Tensor | None, y: Tensor) -> Float[Tensor, " n"]:
        """-log p a token of the answers y to the questions `action`, both texts as bytes [n l]; none asks what the caption is."""
        questions = [""] * len(x) if action is None else unpacked(action)
        return -self.likelihood(self.see(x), questions, unpacked(y))

    def groups(self) -> Iterable[Mapping[str, Any]]:
        """Maps with decay; biases, norms and queries' scales without."""
        found: dict[bool, list[nn.Parameter]] = {True: [], False: []}
        for p in self.parameters():
            if p.requires_grad:
                found[p.ndim > 1].append(p)
        return [{"params": params, "decay": decay, "scale": 1.0} for decay, params in found.items() if params]

    def train(self, mode: bool = True) -> VideoLanguage:
        """What does not learn stays in evaluation mode."""
        super().train(mode)
        self.encoder.eval()
        if self.trains == "bridge":
            self.language.eval()
        return self

    def after_step(self, progress: float) -> None:
        """Nothing moves but the optimiser."""
