"""The main job in full: what the README's first command promises."""

import pytest

from tacit import runs


@pytest.mark.slow
def test_the_demo_beats_both_baselines_where_labels_are_few(tmp_path):
    found = runs.demo(root=tmp_path, quiet=True)
    assert found.status == "finished"
    by_name = {(r.protocol, r.model): r for r in found.probed.results}
    for k in (1, 5, 10):
        trained = by_name[f"linear/{k}-per-class@1", "trained"]
        assert trained.seeds == 10
        assert {d.to for d in trained.differences} == {"raw pixels", "untrained"}
        for difference in trained.differences:  # the whole interval of the paired difference lies above zero
            assert difference.low > 0.02, (k, difference)
    assert by_name["linear/all@1", "trained"].value > 0.97
    page = found.run.report.read_text()
    assert page.count("data:image/png;base64,") > 80
    assert "With 5 labels a class, a linear probe on the learned features reaches" in page
