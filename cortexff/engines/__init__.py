"""The engines that bring a model to life."""
