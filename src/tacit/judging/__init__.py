"""Quality without labels, streaming and mergeable over ranks. May import systems and what lies below."""

from tacit.judging.geometry import Geometry, SelfCluster, clid
from tacit.judging.judges import Collapse, Panel, RankMe, judge_all
from tacit.judging.views import Alignment, LiDAR, ViewPanel

__all__ = [
    "Alignment",
    "Collapse",
    "Geometry",
    "LiDAR",
    "Panel",
    "RankMe",
    "SelfCluster",
    "ViewPanel",
    "clid",
    "judge_all",
]
