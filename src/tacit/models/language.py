"""Causal language models of Hugging Face transformers, by a local folder or small and new, and the bridge from tokens of video to theirs.

Legend: n samples, k tokens of a video, m of them after the bridge, t tokens of text, d features.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Gt
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import CheckpointError, need
from tacit.core.parts import part
from tacit.models.attentive import AttentivePooler
from tacit.models.transformer import initialise

__all__ = ["AttentiveBridge", "ByteTokens", "CausalLanguage", "MLPBridge"]

PositiveInt = Annotated[int, Gt(0)]


class ByteTokens:
    """A text is its UTF-8 bytes; 256 ends it. What a new model reads; one from a folder brings its own tokens."""

    end, size = 256, 257

    def encode(self, text: str) -> list[int]:
        """Numbers of the tokens."""
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        """The text; bytes that make no character are left out."""
        return bytes(t for t in tokens if t < 256).decode(errors="ignore")


class _FolderTokens:
    """The tokens of a folder."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer, self.end = tokenizer, tokenizer.eos_token_id

    def encode(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False)  # type: ignore[no-any-return]

    def decode(self, tokens: Sequence[int]) -> str:
        return self._tokenizer.decode(tokens, skip_special_tokens=True)  # type: ignore[no-any-return]


@part("language", "causal")
class CausalLanguage(nn.Module):
    """A causal language model of transformers, with its tokens.

    folder: of a model that lies here (`AutoModelForCausalLM`, for example Qwen2-7B-Instruct or Llama-3.1-8B, with its tokenizer); nothing
    is downloaded and no code of the folder is run. Without it a small Llama on bytes with first weights. Needs transformers.
    """

    def __init__(
        self,
        *,
        folder: str = "",
        width: PositiveInt = 96,
        depth: PositiveInt = 3,
        heads: PositiveInt = 4,
        hidden: PositiveInt = 256,
    ) -> None:
        super().__init__()
        transformers: Any = need("transformers", "vision", "a language model")
        self.tokens: Any
        if folder:
            if not (Path(folder) / "config.json").is_file():
                raise CheckpointError(
                    f"{folder}: no folder of a transformers model (config.json); nothing is downloaded, fetch it yourself"
                )
            self.model = transformers.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            self.tokens = _FolderTokens(transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True))
        else:
            self.tokens = ByteTokens()
            config = transformers.LlamaConfig(
                vocab_size=ByteTokens.size, hidden_size=width, num_hidden_layers=depth, num_attention_heads=heads,
                num_key_value_heads=heads, intermediate_size=hidden, max_position_embeddings=2048, bos_token_id=None,
                eos_token_id=ByteTokens.end, pad_token_id=ByteTokens.end, tie_word_embeddings=False,
            )  # fmt: skip
            self.model = transformers.LlamaForCausalLM(config)
        self.dim = int(self.model.get_input_embeddings().embedding_dim)

    @staticmethod
    def check_settings(settings: Mapping[str, Any]) -> Iterable[str]:
        """Rules across fields."""
        if settings["width"] % (2 * settings["heads"]):
            yield f"a language model splits width={settings['width']} among heads={settings['heads']} of even width: choose a divisor"

    @staticmethod
    def idle_settings(settings: Mapping[str, Any]) -> Mapping[str, str]:
        """A folder says what its model is."""
        return dict.fromkeys(("width", "depth", "heads", "hidden"), "the folder says it") if settings["folder"] else {}

    def embed(self, tokens: Tensor) -> Float[Tensor, "n t d"]:
        """What the model reads for tokens [n t]."""
        return self.model.get_input_embeddings()(tokens)  # type: ignore[no-any-return]

    def forward(self, inputs: Float[Tensor, "n t d"], real: Tensor) -> Float[Tensor, "n t v"]:
        """Logits of the token after each; `real` [n t] is 1 where an input counts."""
        return self.model(inputs_embeds=inputs, attention_mask=real, use_cache=False).logits  # type: ignore[no-any-return]

    def write(self, inputs: Float[Tensor, "n t d"], most: int) -> list[str]:
        """The likeliest continuations of inputs without fillings, token by token, at most so many."""
        found = self.model.generate(
            inputs_embeds=inputs, attention_mask=inputs.new_ones(inputs.shape[:2], dtype=torch.int64), max_new_tokens=most,
            do_sample=False, num_beams=1, eos_token_id=self.tokens.end, pad_token_id=self.tokens.end,
        )  # fmt: skip
        rows = found.tolist()
        return [
            self.tokens.decode(row[: row.index(self.tokens.end)] if self.tokens.end in row else row) for row in rows
        ]


@part("bridge", "mlp")
class MLPBridge(nn.Sequential):
    """Two maps with a GELU between them, token by token: no pooling (the scaled form of arXiv 2506.09985, section 5)."""

    def __init__(self, dim: int, out: int, tokens: int, *, hidden: PositiveInt | None = None) -> None:
        width = hidden or out
        super().__init__(nn.LayerNorm(dim), nn.Linear(dim, width), nn.GELU(), nn.Linear(width, out))
        self.count = tokens


@part("bridge", "attentive")
class AttentiveBridge(nn.Module):
    """An attentive pooler that leaves one token of every `pool`, then a linear map (the controlled form: 4; ViT-g at 512 pixels: 8)."""

    def __init__(
        self, dim: int, out: int, tokens: int, *, pool: PositiveInt = 4, heads: PositiveInt = 16, depth: PositiveInt = 1
    ) -> None:
        super().__init__()
        self.count = max(1, tokens // pool)
        self.pooler = AttentivePooler(dim, heads, depth, queries=self.count)
        self.proj = nn.Linear(dim, out)
        initialise(self.proj, "normal")

    def forward(self, x: Float[Tensor, "n k d"]) -> Float[Tensor, "n m o"]:
        """Fewer tokens, of the language model's width."""
        return self.proj(self.pooler(x))  # type: ignore[no-any-return]
