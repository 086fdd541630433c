"""Glyphs: capital letters drawn from strokes, with known nuisances; no font files."""
