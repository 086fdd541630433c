"""Readers: a layout on disk in, a Batch out. Never downloads; every layout can be inspected and verified. May import ops and core."""
