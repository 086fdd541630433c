"""Simulators with known factors."""
