"""How fast the engine is, beside the matrix products that its machine can do."""
