"""Differential equations: batched solvers, published initial conditions and file layouts.

Parts of role "world": kdv, ks, burgers, transport (the MP-PDE family), vortex (periodic 2-D Navier-Stokes), smoke (closed box).
"""
