"""What every layer shares: types, the part registry, recipes, errors, ranks and random streams. Imports no room above."""
