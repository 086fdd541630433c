"""Pure functions on tensors and arrays, no state. May import core."""
