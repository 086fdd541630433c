"""Functions that return Recipe values, one file per paper or family; importing them imports no torch. May import core."""
