"""Samplers draw parameters, appliers use them; the parameters are always recorded in the View. May import ops and core."""
