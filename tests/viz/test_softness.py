import numpy as np
import pytest

from hypersphere import viz


def test_every_filter_is_in_the_histogram_of_its_layer(tmp_path):
    rng = np.random.default_rng(0)
    learned = {f"layer{i}": 0.05 + rng.gamma(2.0, 0.4, (i + 1, 4)) for i in range(14)}
    figure = viz.softness(learned, title="run")
    panels = [axes for axes in figure.axes if axes.axison]
    names = [axes.get_title() for axes in panels]
    assert len(names) == 12 and (names[0], names[-1]) == ("layer0", "layer13")
    for axes, name in zip(panels, names, strict=True):
        edges = [bar.get_x() for bar in axes.patches]
        edges.append(edges[-1] + axes.patches[-1].get_width())
        counts, _ = np.histogram(learned[name], edges)
        assert [bar.get_height() for bar in axes.patches] == counts.tolist()
        assert counts.sum() == learned[name].size
    figure.savefig(tmp_path / "softness.png")


def test_what_is_no_softness_is_refused():
    for wrong in ({}, {"a": np.array([np.nan])}, {"a": np.zeros(0)}):
        with pytest.raises(ValueError, match="softness needs layers with finite"):
            viz.softness(wrong)
