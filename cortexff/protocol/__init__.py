"""Protocols: what a subject goes through, as data, and the runner that carries it out."""
