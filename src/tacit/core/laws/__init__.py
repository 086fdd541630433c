"""The laws that a part must obey, whoever wrote it: call these in your own tests.

    from tacit.core.laws import check_objective

    def test_it_obeys_the_laws():
        check_objective(MyObjective)

Each check returns nothing, or raises LawError with the name of the first law that is broken and what was seen. torch is
imported when a check runs, not before.
"""

from tacit.core.laws.case import LawError
from tacit.core.laws.encoder import check_encoder
from tacit.core.laws.objective import check_objective
from tacit.core.laws.source import check_source

__all__ = ["LawError", "check_encoder", "check_objective", "check_source"]
