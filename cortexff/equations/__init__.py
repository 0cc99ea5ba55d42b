"""The paper's equations as pure functions of arrays: goodness, normalization, plasticity."""
