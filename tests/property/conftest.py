"""Hypothesis without deadlines: on a busy machine a slow example says nothing about the rule it checks."""

from hypothesis import settings

settings.register_profile("meterstream", deadline=None, print_blob=True)
settings.load_profile("meterstream")
