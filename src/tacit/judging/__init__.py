"""Quality without labels, streaming and mergeable over ranks. May import systems and what lies below."""

from tacit.judging.judges import Collapse, Panel, RankMe, judge_all

__all__ = ["Collapse", "Panel", "RankMe", "judge_all"]
