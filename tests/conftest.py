"""Loads the house rules for every test; what a tier shares is in its own ``conftest.py``."""

pytest_plugins = ["tests.support.house_rules"]
