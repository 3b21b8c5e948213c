"""Charts: well-formed, spoken, and true to the numbers that they are drawn from."""

import itertools
import math
import xml.etree.ElementTree as ET
from collections.abc import Callable

import pytest

from dpaudit.page import figures, svg
from dpaudit.page.figures import ClaimRow, Estimate, RocCurve, Rungs, Strip, Trace
from dpaudit.page.svg import Look, Scale

INF = math.inf


def _claims(label: str = "sft-eps8") -> str:
    rows = [
        ClaimRow(label, Look(1), "no power", 8.0, 0.3, 5.0),
        ClaimRow("sft-inf", Look(0), "no claim", None, 3.0, 5.0),
    ]
    return figures.claims(rows, "claims")


def _roc(label: str = "sft-eps8") -> str:
    fpr, tpr = [0.0, 0.0, 0.01, 0.5, 1.0], [0.0, 0.1, 0.2, 0.8, 1.0]
    lower, upper = [0.0, 0.05, 0.1, 0.7, 0.99], [0.02, 0.15, 0.3, 0.9, 1.0]
    return figures.roc(
        [RocCurve(label, Look(1), fpr, tpr, lower, upper), RocCurve("b", Look(0, 1), fpr, tpr)], "roc"
    )


def _ladder(label: str = "SFT") -> str:
    points = [
        (1.0, Look(3), Estimate(0.5, 0.45, 0.55)),
        (8.0, Look(1), Estimate(0.9, 0.85, 0.95)),
        (INF, Look(0), Estimate(0.99)),
    ]
    series = [Rungs(label, 0, points), Rungs("DPO", 1, points[1:2])]
    base = Estimate(0.24, 0.2, 0.28)
    return figures.ladder(
        series, "ladder", title="Accuracy", unit="accuracy", base=base, chance=0.25, percent=True
    )


def _exposure(label: str = "sft-eps8") -> str:
    return figures.exposure([Strip(label, Look(1), [0.5, 0.5, 13.0], [0.0, 1.0])], 13.0, "exposure")


def _traces(label: str = "sft-eps8") -> str:
    return figures.traces(
        [Trace(label, Look(1), [1, 2, 3], [2.0, math.nan, 1.0])], "loss", title="Loss", unit="nats"
    )


CHARTS = [_claims, _roc, _ladder, _exposure, _traces]


def _elements(chart: str, css: str) -> list[ET.Element]:
    return [e for e in ET.fromstring(chart).iter() if css in e.get("class", "").split()]


@pytest.mark.parametrize("draw", CHARTS)
def test_a_chart_is_well_formed_and_spoken(draw: Callable[[], str]) -> None:
    root = ET.fromstring(draw())
    spoken = [root.find("title"), root.find("desc")]
    assert root.get("role") == "img"
    assert root.get("aria-labelledby") == " ".join(e.get("id", "") for e in spoken if e is not None)
    assert all(e is not None and e.text for e in spoken)


@pytest.mark.parametrize("draw", CHARTS)
def test_a_chart_names_no_resource_and_runs_nothing(draw: Callable[[], str]) -> None:
    chart = draw()
    assert not any(word in chart for word in ("http", "url(", "href", "<script", "<style", "onload"))


@pytest.mark.parametrize("draw", CHARTS)
def test_a_label_is_escaped(draw: Callable[[str], str]) -> None:
    chart = draw('<b>&"')
    assert "<b>" not in chart
    assert '<b>&"' in " ".join(ET.fromstring(chart).itertext())


def test_a_chart_stays_inside_its_frame() -> None:
    for draw in (_claims, _roc, _ladder, _exposure):
        root = ET.fromstring(draw())
        _, _, width, height = map(float, root.get("viewBox", "").split())
        for element in root.iter():
            for name, limit in (
                ("x", width),
                ("x1", width),
                ("x2", width),
                ("cx", width),
                ("y", height),
                ("y1", height),
                ("cy", height),
            ):
                assert 0 <= float(element.get(name, 0)) <= limit, (draw.__name__, element.tag, element.attrib)


def test_the_bars_of_a_claim_are_in_proportion() -> None:
    proven, ceiling = _elements(_claims(), "proven")[0], _elements(_claims(), "ceiling")[0]
    assert float(proven.get("width", 0)) / float(ceiling.get("width", 1)) == pytest.approx(
        0.3 / 5.0, abs=0.001
    )


def test_a_claim_beyond_the_ceiling_stands_to_its_right() -> None:
    mark, end = _elements(_claims(), "claim-line")[0], _elements(_claims(), "ceiling-end")[0]
    assert float(mark.get("x1", 0)) > float(end.get("x1", 0))


def test_an_arm_without_claim_has_no_claim_mark() -> None:
    in_rows = [
        e for g in ET.fromstring(_claims()).findall("g") for e in g.iter() if e.get("class") == "claim-line"
    ]
    assert len(in_rows) == 1


def test_a_curve_with_an_interval_has_a_band_and_one_without_has_none() -> None:
    assert len(_elements(_roc(), "band")) == 1


def test_one_percent_stands_inside_the_plot_even_with_few_controls() -> None:
    coarse = RocCurve("few", Look(1), [0.0, 0.5, 1.0], [0.5, 1.0, 1.0])
    axis = _elements(figures.roc([coarse], "roc"), "axis")[0]
    mark = _elements(figures.roc([coarse], "roc"), "marker-line")[0]
    assert float(axis.get("x1", 0)) < float(mark.get("x1", 0)) < float(axis.get("x2", 0))


def test_methods_differ_in_marker_and_rungs_in_colour() -> None:
    circles, diamonds = svg.marker(0, 0, Look(1, 0)), svg.marker(0, 0, Look(1, 1))
    assert circles.startswith("<circle") and diamonds.startswith("<path")
    assert Look(0).css != Look(1).css


def test_a_better_accuracy_is_drawn_higher() -> None:
    circles = [e for e in ET.fromstring(_ladder()).findall("circle") if "dot" in e.get("class", "")]
    heights = [float(e.get("cy", 0)) for e in circles[:3]]
    assert heights == sorted(heights, reverse=True)


def test_dots_that_cover_one_another_are_parted_and_keep_their_place() -> None:
    dots = _elements(_exposure(), "speck")
    places = {(e.get("cx"), e.get("cy")) for e in dots}
    assert len(places) == 3 and len({x for x, _ in places}) == 2


def test_a_logarithmic_scale_is_even_in_decades_and_draws_zero_at_its_edge() -> None:
    scale = Scale(0.001, 1.0, 0.0, 300.0, log=True)
    assert [scale.at(v) for v in (0.001, 0.01, 0.1, 1.0)] == [0.0, 100.0, 200.0, 300.0]
    assert scale.at(0.0) == 0.0


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.23, 0.99), (0.016, 0.902), (-3.0, 12.0), (5.0, 5.0), (0.0, 0.0)]
)
def test_ticks_cover_what_they_are_for_at_even_distances(low: float, high: float) -> None:
    ticks = svg.ticks_over(low, high, 5)
    gaps = [b - a for a, b in itertools.pairwise(ticks)]
    assert ticks[0] <= low + 1e-9 and ticks[-1] >= high - 1e-9
    assert 3 <= len(ticks) <= 9 and max(gaps) == pytest.approx(min(gaps))


def test_thinning_keeps_both_ends_and_moves_nothing_by_half_a_unit() -> None:
    line = [(x / 10, math.sin(x / 50)) for x in range(1000)]
    kept = svg.thinned(line)
    assert kept[0] == line[0] and kept[-1] == line[-1] and len(kept) < 250
    assert all(min(math.dist(p, k) for k in kept) < 0.5 for p in line)


def test_spoken_figures_are_rounded_as_in_the_tables() -> None:
    rows = [ClaimRow("sft-eps4", Look(1), "not refuted", 4.0, 0.179, 4.1899)]
    assert "sft-eps4, claimed 4, proven at least 0.17, ceiling 4.18, not refuted" in figures.claims(rows, "c")
    points = [(1.0, Look(3), Estimate(0.348214)), (INF, Look(0), Estimate(0.036))]
    bits = figures.ladder([Rungs("SFT", 0, points)], "b", title="Bits", unit="bits per byte")
    assert "1: 0.348, inf: 0.036" in bits
    shares = figures.ladder([Rungs("SFT", 0, points)], "s", title="Share", unit="accuracy", percent=True)
    assert "1: 34.8 %, inf: 3.6 %" in shares
