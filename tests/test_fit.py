"""A protocol, a model and images that do not go together are refused before the run."""

import json
import re

import pytest
from short_life import MODEL, images_of, protocol_of

from cortexff.errors import CortexffError
from cortexff.graph import parse_model
from cortexff.protocol.fit import check_fit


def test_a_stage_that_asks_for_what_there_is_not_is_refused():
    net, images = parse_model(json.dumps(MODEL)), images_of()
    for change, words in (
        ({"plasticity": {"sleeping": ["V3"]}}, "unknown area 'V3' (known: V1, V2)"),
        ({"stimuli": {"classes": [0, 4]}}, "4 is none of 0 to 3"),
        ({"stimuli": {"remembered": 4}}, "leaves 4 training images, but stimuli.minibatch is 5"),
    ):
        with pytest.raises(CortexffError, match=re.escape(words)):
            check_fit(protocol_of({"stages": {"deprivation": change}}), net, images)


def test_a_metric_that_nothing_measures_is_refused_before_the_run():
    protocol = protocol_of({"table": {"metrics": {"fp_negg": None}}})
    with pytest.raises(CortexffError, match="unknown metric 'fp_negg'"):
        check_fit(protocol, parse_model(json.dumps(MODEL)), images_of())


def test_a_shift_out_of_sight_and_a_readout_of_no_area_are_refused_before_the_run():
    net, images = parse_model(json.dumps(MODEL)), images_of()
    with pytest.raises(CortexffError, match=r"stimuli.jitter 3 can shift an image of 3 x 3 pixels.*give less than 3"):
        check_fit(protocol_of({"stimuli": {"jitter": 3}}), net, images)
    areas = {name: area for name, area in MODEL["areas"].items() if name != "V2"}
    projections = [{"from": "retina", "to": "V1"}, {"from": "label", "to": "V1", "kind": "top_down"}]
    shallow = parse_model(json.dumps({**MODEL, "areas": areas, "projections": projections}))
    with pytest.raises(CortexffError, match=r"skip_first leaves out the only hidden area of .*, V1: set it to false"):
        check_fit(protocol_of({"readout": {"skip_first": True}}), shallow, images)
