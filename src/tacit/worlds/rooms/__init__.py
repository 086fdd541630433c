"""Two Rooms: a dot in a square arena with a wall and a door; vectorised on tensors, as a gymnasium environment, and as a source of clips.

May import ops and core. gymnasium is needed by `rooms.env` alone. Legend: n worlds, t frames, h steps, s samples;
positions [... 2] are (x, y) in pixels, x to the right, y downward. Source: arXiv 2502.14819 and 2602.03604.
"""

from tacit.worlds.rooms.dynamics import bounce, roll, stay_put
from tacit.worlds.rooms.episodes import Card, Outcome, baselines, play, scripted
from tacit.worlds.rooms.layouts import Layouts, all_layouts, random_layouts
from tacit.worlds.rooms.paths import path_length
from tacit.worlds.rooms.pictures import draw, normalise, normalise_position
from tacit.worlds.rooms.policies import POLICIES, oracle, random_walk, still, straight
from tacit.worlds.rooms.tasks import Tasks, published_tasks, random_tasks
from tacit.worlds.rooms.trajectories import Walks, walks
from tacit.worlds.rooms.world import Rooms

__all__ = [
    "POLICIES",
    "Card",
    "Layouts",
    "Outcome",
    "Rooms",
    "Tasks",
    "Walks",
    "all_layouts",
    "baselines",
    "bounce",
    "draw",
    "normalise",
    "normalise_position",
    "oracle",
    "path_length",
    "play",
    "published_tasks",
    "random_layouts",
    "random_tasks",
    "random_walk",
    "roll",
    "scripted",
    "stay_put",
    "still",
    "straight",
    "walks",
]
