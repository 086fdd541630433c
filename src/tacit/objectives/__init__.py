"""Training criteria as modules over ops; each declares how it behaves across ranks. May import ops and core."""
