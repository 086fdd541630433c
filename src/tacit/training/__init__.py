"""Loop, optimisers, schedules, checkpoints, runtime, hooks, parallel engines; knows systems and data only as protocols. May import ops and core."""
