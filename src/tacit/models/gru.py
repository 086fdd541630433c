"""A recurrent cell as the dynamics of a world model: the state of the world is its hidden state, the action its input."""

from __future__ import annotations

from typing import Annotated, Any

import torch
import torch.nn.functional as F
from annotated_types import Ge
from jaxtyping import Float
from torch import Tensor, nn

from tacit.core.errors import RecipeError
from tacit.core.parts import part
from tacit.models.gates import gate

__all__ = ["GRU"]

_MOST_INPUTS = 32  # numbers of an action; a product of their own is faster for more


@part("dynamics", "gru")
class GRU(nn.Module):
    """One gated recurrent cell: h is the state now, the input is the action, h' the state after it.

        r = s(W_r a + U_r h),  u = s(W_u a + U_u h),  n = tanh(W_n a + b + r (U_n h + c)),  h' = (1 - u) n + u h

    Gate order and biases are torch's, and so are the names of the weights (`rnn.weight_ih_l0`), which are EB-JEPA's.
    embed: width of a linear map of the action before the cell; 0 feeds the action itself, as published.
    Source: arXiv 1406.1078; as a predictor of latent states arXiv 2502.14819 and 2602.03604.
    """

    context, lead = 1, 0

    def __init__(self, dim: int, actions: int, places: int = 1, *, embed: Annotated[int, Ge(0)] = 0) -> None:
        super().__init__()
        if places != 1:
            raise RecipeError(f"dynamics 'gru' moves one vector, the states have {places} places: set state=pooled")
        if actions < 1:
            raise RecipeError(
                "dynamics 'gru' moves a state by an action, and the data have none: take a source with actions"
            )
        self.embed = nn.Linear(actions, embed) if embed else nn.Identity()
        self.rnn: Any = nn.GRU(embed or actions, dim)

    def inputs(self, actions: Float[Tensor, "*n a"]) -> Float[Tensor, "*n g"]:
        """What the gates get from the actions, of a step or of many in one product."""
        return F.linear(self.embed(actions), self.rnn.weight_ih_l0, self.rnn.bias_ih_l0)

    def cell(self, state: Float[Tensor, "n d"], given: Float[Tensor, "n g"]) -> Float[Tensor, "n d"]:
        """The state after one action, from `inputs` of it."""
        held = F.linear(state, self.rnn.weight_hh_l0, self.rnn.bias_hh_l0)
        (ir, iu, i), (hr, hu, h) = given.chunk(3, 1), held.chunk(3, 1)
        new, keep = torch.addcmul(i, torch.sigmoid(ir + hr), h), torch.sigmoid(iu + hu)
        if new.dtype != state.dtype:  # under autocast; torch's tanh of a processor's bfloat16 takes five times as long
            new, keep = new.to(state.dtype), keep.to(state.dtype)
        return torch.lerp(new.tanh(), state, keep)

    def step(self, state: Float[Tensor, "n d"], action: Float[Tensor, "n a"]) -> Float[Tensor, "n d"]:
        """The state after one action; on a processor, where no gradients are asked for, in one pass but for the hidden product."""
        action, rnn = self.embed(action).to(state.dtype), self.rnn
        narrow = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else torch.float32
        plain = state.device.type == "cpu" and state.dtype == torch.float32 and not torch.is_grad_enabled()
        if not plain or narrow not in (torch.float32, torch.bfloat16) or action.shape[1] > _MOST_INPUTS:
            return self.cell(state, F.linear(action, rnn.weight_ih_l0, rnn.bias_ih_l0))
        held = F.linear(state, rnn.weight_hh_l0)
        return gate(action, rnn.weight_ih_l0, rnn.bias_ih_l0, held, rnn.bias_hh_l0, state)

    def forward(self, states: Float[Tensor, "n t d"], actions: Float[Tensor, "n t a"]) -> Float[Tensor, "n t d"]:
        """What follows each of the states under the action beside it."""
        after = self.cell(states.flatten(0, 1), self.inputs(actions).flatten(0, 1))
        return after.view_as(states)
