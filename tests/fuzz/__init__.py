"""Fuzzers, to be run by hand for as long as one likes; CONTRIBUTING tells how.

What they found that is worth keeping lies in ``corpus`` and is played again by the tests.
"""
