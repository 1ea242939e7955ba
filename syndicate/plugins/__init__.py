"""The makers of both daemons' services: the only place, with `lab` and `cli`, where
implementations meet. ``twisted/plugins/syndicate_plugins.py`` names the two.
"""
