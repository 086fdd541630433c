"""Values that every layer shares: the types, the part registry, recipes, errors, ranks and random streams. Imports nothing above."""
