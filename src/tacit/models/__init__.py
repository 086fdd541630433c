"""Encoders, predictors and heads; saving and loading them without a run. May import ops and core."""
