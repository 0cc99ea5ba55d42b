"""Figures of a report show what the populations hold, are left out where they lack it, and bear lost subjects."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import rc_context
from matplotlib.colors import to_hex

from cortexff.graph import hidden_areas, load_model, with_goodness
from cortexff.plots.page import GREEN, ORANGE, STYLE, VERMILION
from cortexff.protocol.loading import load_protocol
from cortexff.report.figures import FIGURES
from cortexff.report.figures.deprivation import draw_laws
from cortexff.report.figures.lives import against_control, margin_change
from cortexff.report.figures.sheet import along
from cortexff.report.figures.sleep import change_in_sleep, cycles, nights
from cortexff.report.study import Course, Population

TRIALS, FRAMES, LABELS = 40, 32, 10
OF_ALL_LIVES = {"chronic", "content", "encoding", "local_sleep"}  # figures that need the lives of the preset full


def probed(protocol, condition):
    """Updates at which a condition is probed, and of each probe its stage and the phase of the update before it."""
    stages = [protocol.stages[stage] for stage in protocol.conditions[condition].stages]
    updates, phases, names, begun = [0], [""], protocol.conditions[condition].stages[:1], 0
    for name, stage in zip(protocol.conditions[condition].stages, stages, strict=True):
        length = stage.updates or 100
        whole = [lead * 10**power for power in range(5) for lead in (1, 2, 5)] if stage.probe == "log" else []
        if stage.cycle:
            whole = [end for turn in whole for end in (turn * stage.cycle.length - stage.cycle.sleep,)]
        ends = [update for update in whole if update < length] + [length]
        updates += [begun + end for end in ends]
        phases += [stage.phase_at(end - 1) for end in ends]
        names += [name] * len(ends)
        begun += length
    return np.array(updates), names, phases


def planted(preset="default", variant="max", subjects=3, name=None, conditions=None):
    """A population made by hand: hallucinations rise with the logarithm of time awake, and sleep takes them away."""
    whole = load_protocol("sleep_deprivation", preset, {"subjects": {"subjects": subjects}})
    protocol = whole.variant(variant)
    net = with_goodness(load_model(protocol.model), **protocol.goodness.model_dump(exclude_none=True))
    about = {"settings": whole.model_dump_json(by_alias=True), "preset": preset}
    random, courses = np.random.default_rng(0), {}
    population = Population(name or variant, variant if variant != "mixed" else "mixed", protocol, net, about, courses)
    for condition in protocol.conditions if conditions is None else conditions:
        updates, stages, phases = probed(protocol, condition)
        courses[condition] = Course(condition, stages, phases, {})
        courses[condition].found.update(measured(population, condition, updates, random))
    return population


def measured(population, condition, updates, random):
    """What probes of a condition found: a level that rises awake and falls asleep, and each variable from it."""
    subjects, areas = population.subjects, len(hidden_areas(population.net))
    phase = population.protocol.stages[population.protocol.conditions[condition].stages[0]].phase
    start = population.protocol.conditions[condition].start
    begun = population.courses[start].found["fp_neg"][-1] / 0.1 if start in population.courses else 0.05
    begun = np.broadcast_to(begun, subjects)
    gain = {"wake": 0.3, "alternating": 0.1, "sleep": -1.0, "scaling": -0.5}.get(phase, 0.0)
    own = 1 + 0.1 * np.arange(subjects)
    level = np.maximum(begun + gain * own * np.log1p(updates / 5)[:, None], 0.01)
    by_area = level[:, :, None] * (1 + 0.2 * np.arange(areas))
    by_label = np.repeat(level[:, :, None], LABELS, 2) * np.linspace(0.5, 1.5, LABELS)
    onset = np.arange(TRIALS) % 9 + 2
    evidence = random.normal(-1, 1, (subjects, TRIALS, FRAMES)) + 1.5 * level[-1][:, None, None]
    evidence += 3 * (np.arange(FRAMES) >= onset[:, None])
    theta = np.array([population.net.nodes[area]["goodness"].threshold for area in population.areas])
    return {
        "update": updates,
        "positive_updates": np.repeat(updates[:, None], subjects, 1) * (phase in ("wake", "interleaved")),
        "negative_updates": np.repeat(updates[:, None], subjects, 1) * (phase in ("sleep", "interleaved")),
        "fp_neg": 0.1 * level,
        "fp_noise": 0.05 * level,
        "err_goodness": 0.03 + 0.005 * level,
        "miss": 0.1 / (1 + level),
        "dprime": 4 - 0.1 * level,
        "criterion": 0.5 - level,
        "sleep_drive": 0.1 * level,
        "rate": 0.5 + 0.1 * by_area,
        "active_frac": 0.4 + 0.01 * by_area,
        "goodness_pos": (theta * (1.5 + 0.1 * by_area))[..., None],
        "goodness_neg": (theta * (0.5 + 0.2 * by_area))[..., None],
        "evoked_slope": 1 + 0.1 * by_area,
        "pulse_response": 1 + 0.1 * by_area,
        "gain_star": 5 - 0.1 * level,
        "energy": 100 + level,
        "weight_mean": 0.001 * by_area,
        "dimensionality": 20 - by_area,
        "err_by_label": 0.05 * by_label,
        "fp_by_label": 0.1 * by_label,
        "vigilance_evidence": evidence,
        "vigilance_onset": onset,
    }


def lose(population, condition, metrics=None):
    """The population, with its first subject diverged at the last probe of a condition."""
    course = population.courses[condition]
    found = {name: np.array(values) for name, values in course.found.items()}
    for name, values in found.items():
        if values.ndim > 1 and len(values) == len(found["update"]) and not name.endswith("_updates"):
            values[-1, 0] = np.nan
    found["vigilance_evidence"][0] = np.nan
    return replace(population, courses={**population.courses, condition: replace(course, found=found)})


def draw(stem, populations):
    """A figure as it is saved, in memory; every warning is an error."""
    with rc_context(STYLE):
        figure = FIGURES[stem][1](populations)
        if figure is not None:
            figure.draw_without_rendering()
    return figure


def drawn(figure, colour):
    """Bold curves of a colour in the first panel, as arrays of x and y."""
    lines = [one for one in figure.axes[0].lines if to_hex(one.get_color()) == colour.lower()]
    return [one.get_xydata() for one in lines if one.get_linewidth() > 1]


@pytest.fixture(scope="module")
def default():
    return planted()


@pytest.fixture(scope="module")
def full():
    return planted("full")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("stem", FIGURES)
def test_every_figure_is_drawn_of_every_life(stem, full):
    """The preset with all conditions has something for each figure."""
    assert draw(stem, [full]) is not None


def test_wake_in_the_figure_of_process_s_is_as_long_as_in_its_table(full):
    """To the end of the longer deprivation: a time constant depends on how long a curve is watched."""
    awake = int(full.courses["deprived"].updates[-1] + full.courses["deprived_longer"].updates[-1])
    assert max(xy[:, 0].max() for xy in drawn(draw("process_s", [full]), VERMILION)) == awake


@pytest.mark.parametrize("stem", FIGURES)
def test_a_figure_without_its_data_is_left_out(stem, default):
    """The default preset lacks some lives; without any life there is nothing to draw."""
    assert stem not in OF_ALL_LIVES or draw(stem, [default]) is None
    assert draw(stem, []) is None
    assert draw(stem, [replace(default, courses={})]) is None


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("stem", FIGURES)
def test_a_diverged_subject_is_counted_and_leaves_a_gap(stem, full):
    """No figure fails or warns where a network was lost."""
    for condition in ("deprived", "recovered", "one_class", "local_sleep", "chronic_1", "encoding_deprived"):
        full = lose(full, condition)
    figure = draw(stem, [full])
    if stem == "dose_response":
        assert any("max deprived 1 of 3" in text.get_text() for text in figure.texts)
        (curve,) = drawn(figure, VERMILION)
        assert np.isnan(curve[-1, 1]) or np.isnan(curve[:, 1]).any()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("stem", FIGURES)
def test_one_subject_is_enough(stem):
    """A single subject has no interval, and is drawn."""
    one = planted("full", subjects=1)
    assert draw(stem, [one]) is not None


@pytest.mark.filterwarnings("error")
def test_populations_of_several_files_stand_side_by_side(default, full):
    """A column for each, or a line; those that lack the data have none."""
    both = [replace(default, name="max, default"), replace(full, name="max, full")]
    assert len(draw("dose_response", both).axes) == 2 * len(draw("dose_response", [default]).axes)
    assert len(draw("chronic", both).axes) == 2  # of one population, with learning that slows down and without
    assert len(draw("protocol", both).axes) == 4


def test_the_curve_drawn_is_the_one_planted(default):
    """The bold line of deprivation is the mean over subjects, in percent, at the updates of the probes."""
    (curve,) = drawn(draw("dose_response", [default]), VERMILION)
    course = default.courses["deprived"]
    np.testing.assert_allclose(curve[:, 0], course.updates)
    np.testing.assert_allclose(curve[:, 1], 100 * course.found["fp_neg"].mean(1))


def test_the_best_law_is_the_one_planted(default):
    """Hallucinations that rise with the logarithm of time awake are said to do so."""
    course = default.courses["deprived"]
    with rc_context(STYLE):
        axes = FIGURES["dose_response"][1]([default]).axes[0]
        draw_laws(axes, course.updates, 100 * course.found["fp_neg"])
    assert axes.texts[-1].get_text() == "logarithmic"


def test_a_longer_deprivation_goes_on_where_the_first_ended(full):
    """Its probes follow those of the first, whose last one is not there twice."""
    updates, values = along(full, "deprived_longer", "fp_neg")
    assert updates[-1] == 3000 and np.all(np.diff(updates) > 0)
    np.testing.assert_allclose(
        values[: len(full.courses["deprived"].updates)], 100 * full.courses["deprived"].of("fp_neg")
    )


def test_nights_are_found_by_the_time_awake_before_them(full):
    """Every dose has its recovery; sleep of another content is none."""
    assert nights(full) == {
        10: ["recovered_10"],
        100: ["recovered_100"],
        1000: ["recovered", "overslept"],
        3000: ["recovered_longer"],
    }


def test_the_end_of_wake_is_drawn_for_each_cycle(full):
    """Too little sleep has a line for each share; the first cycle counts 1."""
    figure = draw("chronic", [full])
    assert set(cycles(full).values()) == {(1, 64), (4, 64), (16, 64)}
    assert set(cycles(full, "linear").values()) == {(1, 64), (16, 64), (64, 64)}
    curve = drawn(figure, ORANGE)[0]
    assert curve[0, 0] == 1 and curve[-1, 0] <= 30


def test_what_a_night_removes_is_a_share_of_the_excess(default):
    """All of it where hallucinations are as before, nothing at rest."""
    np.testing.assert_allclose(change_in_sleep(default, "before", "removed"), 100)
    np.testing.assert_allclose(change_in_sleep(default, "rest", "removed"), 0, atol=1e-9)
    assert change_in_sleep(default, "unknown", "removed") is None
    course = default.courses["deprived"]
    same = {**course.found, "fp_neg": np.repeat(course.found["fp_neg"][:1], len(course.updates), 0)}
    harmless = replace(default, courses={**default.courses, "deprived": replace(course, found=same)})
    assert change_in_sleep(harmless, "before", "removed") is None  # no excess


def test_controls_are_compared_after_as_many_updates(default):
    """Within subjects, with the control at its probe of the same update."""
    found = against_control(default, "deprived", "fp_neg")
    expected = default.courses["deprived"].of("fp_neg")[-1] - default.courses["control"].of("fp_neg")[-1]
    np.testing.assert_allclose(found, 100 * expected)
    assert against_control(default, "recovered", "fp_neg") is None


def test_a_margin_is_what_tells_real_data_whatever_the_sign():
    """Goodness that goes apart is a loss of margin where low goodness is real, and a gain where high is."""
    high, low = planted(variant="max"), planted(variant="min")
    np.testing.assert_allclose(margin_change(high, "deprived"), -margin_change(low, "deprived"))


def test_recovery_is_green(default):
    """The mean of recovery begins where deprivation ended."""
    (curve,) = drawn(draw("recovery", [default]), GREEN)
    np.testing.assert_allclose(curve[0], [0, 100 * default.courses["deprived"].of("fp_neg")[-1].mean()])
