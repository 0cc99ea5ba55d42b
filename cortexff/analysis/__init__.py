"""From what a log holds to the numbers that are reported."""
