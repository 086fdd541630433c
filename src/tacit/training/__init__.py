"""Loop, optimisers, schedules, checkpoints, runtime, hooks, engines; sees systems and data as protocols. May import ops and core."""
