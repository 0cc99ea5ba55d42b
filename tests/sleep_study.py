"""A sleep study by hand: subjects whose every outcome is known, with changes planted in some conditions."""

import numpy as np

from cortexff.graph import hidden_areas, load_model, with_goodness
from cortexff.protocol.loading import load_protocol
from cortexff.protocol.schedule import probe_updates
from cortexff.report.study import Course, Population

TRIALS, FRAMES, LABELS = 60, 32, 10
LENGTH, LONG = 1000, ("interleaved", "frozen", "deprivation", "other_synapses", "any_labels", "weight_cost")  # updates
PROBES = np.array([0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000])
REST = {  # outcome → what it is in a subject that is as it was, in the unit of the log
    "fp_neg": 0.05,
    "fp_noise": 0.05,
    "miss": 0.1,
    "err_goodness": 0.1,
    "err_softmax": 0.1,
    "dprime": 3.0,
    "criterion": 0.4,
    "auroc": 0.98,
    "sleep_drive": 0.1,
    "wake_drive": 0.1,
    "energy": 1000.0,
    "gain_star": 5.0,
}
OF_AREAS = {"rate": 0.6, "active_frac": 0.5, "evoked_slope": 0.2, "pulse_response": 0.05, "weight_mean": 0.001}


def saturating(updates, half=40.0):
    """A rise from 0 towards 1 that people's lapses do not have."""
    return updates / (updates + half)


def straight(updates):
    """A rise from 0 to 1 in a line."""
    return updates / updates[-1]


def study(
    changes=None,
    subjects=10,
    variant="max",
    conditions=("development", "control", "frozen", "deprived", "recovered", "overslept", "scaling"),
    rise=saturating,
    noise=0.002,
    preset="default",
    name=None,
    vigilance=False,
    seed=0,
):
    """A population.

    changes   condition → outcome → what it grows to over the condition, beyond where the condition began
    rise      of updates to the share of the change that has come by then
    noise     standard deviation of every probe, as a share of the outcome at rest
    vigilance  whether conditions end with a session of the task
    """
    lengths = {"stages": {name: {"updates": LENGTH} for name in LONG}}
    whole = load_protocol("sleep_deprivation", preset, {"subjects": {"subjects": subjects}, "lengths": lengths})
    protocol = whole.variant(variant)
    net = with_goodness(load_model(protocol.model), **protocol.goodness.model_dump(exclude_none=True))
    about = {"settings": whole.model_dump_json(by_alias=True), "preset": preset, "protocol_name": "sleep_deprivation"}
    random = np.random.default_rng(seed)
    own = {outcome: 1 + 0.1 * random.normal(size=subjects) for outcome in {**REST, **OF_AREAS}}
    population = Population(name or variant, variant, protocol, net, about, {})
    reached = {None: {outcome: 0.0 for outcome in own}}
    for condition in conditions:
        lived = protocol.conditions[condition]
        stage = protocol.stages[lived.stages[-1]]
        length = stage.updates or 1000
        updates = np.append(PROBES[length > PROBES], length)
        if stage.cycle is not None:
            updates = np.array([0, *probe_updates(stage, length, 1)])
        elif stage.probe == "end":
            updates = updates[[0, -1]]
        start = reached[lived.start if lived.start in reached else None]
        planted = (changes or {}).get(condition, {})
        grown = {one: start[one] + planted.get(one, 0.0) * rise(updates.astype(float))[:, None] for one in own}
        reached[condition] = {one: grown[one][-1] for one in own}
        population.courses[condition] = course(population, condition, stage, updates, grown, own, random, noise)
        if vigilance:
            population.courses[condition].found.update(session(subjects, random))
    return population


def course(population, condition, stage, updates, grown, own, random, noise):
    """A condition in which outcomes are as much higher than at rest as ``grown`` says."""
    subjects, areas = population.subjects, len(hidden_areas(population.net))

    def probed(outcome, rest, *more):
        values = rest * own[outcome] * np.ones((len(updates), subjects)) + grown[outcome]
        values = values.reshape(len(updates), subjects, *[1] * len(more)) * np.ones((len(updates), subjects, *more))
        return values + noise * rest * random.normal(size=values.shape)

    counted = np.repeat(updates[:, None], subjects, 1)
    theta = np.array([population.net.nodes[area]["goodness"].threshold for area in population.areas])
    found = {
        "update": updates,
        "positive_updates": counted * (stage.phase in ("wake", "interleaved")),
        "negative_updates": counted * (stage.phase in ("sleep", "interleaved")),
        "weight_path": np.repeat(counted[..., None] / 1000, areas, -1),
        **{outcome: probed(outcome, rest) for outcome, rest in REST.items()},
        **{outcome: probed(outcome, rest, areas) for outcome, rest in OF_AREAS.items()},
        "goodness_pos": np.ones((len(updates), subjects, areas, 1)) * theta[:, None],
    }
    phases = ["", *(stage.phase_at(int(update) - 1) for update in updates[1:])]
    return Course(condition, [population.protocol.conditions[condition].stages[-1]] * len(updates), phases, found)


def session(subjects, random, drive=3.0):
    """A session of the task: evidence of noise alone, then of a picture that is worth ``drive`` more in each frame."""
    onset = np.arange(TRIALS) % 9 + 2
    evidence = random.normal(-2, 1, (subjects, TRIALS, FRAMES)) + drive * (np.arange(FRAMES) >= onset[:, None])
    return {"vigilance_evidence": evidence, "vigilance_onset": onset}
