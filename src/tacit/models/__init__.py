"""Encoders and heads; reading, exporting and loading their weights. May import ops and core."""

from tacit.models.store import Card, card, export, load, weights_digest
from tacit.models.weights import Match, load_weights, read_weights

__all__ = ["Card", "Match", "card", "export", "load", "load_weights", "read_weights", "weights_digest"]
