"""Plans over any energy callable: sampling and gradient planners, the energies of goals, a receding-horizon agent.

May import ops and core; it never sees a model or an environment's class, only callables and gymnasium's methods.
Legend: p problems, s = p k sample rows (the k samples of problem 0 first, then those of problem 1, ...), h steps of the
horizon, a action width.
"""

from tacit.planning.agent import Agent, Episode, episode
from tacit.planning.cem import CEM, ICEM
from tacit.planning.energies import GoalEnergy, disagreement, goal_energy, squared
from tacit.planning.gradient import Gradient
from tacit.planning.hierarchy import Hierarchical
from tacit.planning.mppi import MPPI, PathIntegral
from tacit.planning.shooting import Shooting
from tacit.planning.values import Bounds, Cost, Plan, Planner, shift

__all__ = [
    "CEM",
    "ICEM",
    "MPPI",
    "Agent",
    "Bounds",
    "Cost",
    "Episode",
    "GoalEnergy",
    "Gradient",
    "Hierarchical",
    "PathIntegral",
    "Plan",
    "Planner",
    "Shooting",
    "disagreement",
    "episode",
    "goal_energy",
    "shift",
    "squared",
]
