"""How images reach a net."""

import numpy as np
import pytest

from cortexff.protocol.presentation import images_of
from cortexff.protocol.settings import Stimuli


@pytest.mark.parametrize("centred", [False, True])
def test_the_images_of_a_protocol_are_split_then_centred(centred):
    images = images_of(Stimuli(images="digits", validation=200, centred=centred))
    assert (len(images.training_labels), len(images.validation_labels)) == (1200, 200)
    assert np.allclose(images.training_images.mean(0), 0, atol=1e-6) == centred
