"""Lie point symmetries of differential equations as recorded augmentations (arXiv 2202.07643, 2307.05432).

element = KDV.element(g)            # g [n 4], exact exponential; or method="product" as in the paper
points = transform(field, element)  # new coordinates and values, no resampling
moved = resample(field, element)    # the same solution on a uniform grid
"""

from tacit.views.lie.algebra import Element, Group, linear_group
from tacit.views.lie.apply import Points, resample, transform
from tacit.views.lie.groups import BOUSSINESQ, BURGERS, GROUPS, KDV, KS, NAVIER_STOKES, POTENTIAL
from tacit.views.lie.own import FieldGroup
from tacit.views.lie.potential import move_heat, move_potential, superpose

__all__ = [
    "BOUSSINESQ",
    "BURGERS",
    "GROUPS",
    "KDV",
    "KS",
    "NAVIER_STOKES",
    "POTENTIAL",
    "Element",
    "FieldGroup",
    "Group",
    "Points",
    "linear_group",
    "move_heat",
    "move_potential",
    "resample",
    "superpose",
    "transform",
]
