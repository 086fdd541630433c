"""Clips of moving digits and simple shapes, drawn when they are asked for, with what is true of them."""
