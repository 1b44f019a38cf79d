"""The garbage collector of a process that answers requests.

What the start has made (modules, classes, routes) is there for good. A full collection looks at all of it, some hundred
thousand objects, and every request waits meanwhile: a tenth of a second, again and again.
"""

import gc

# New objects, less those that went, between two looks at the young ones. Requests make almost no cycles; errors make a
# few, which may hold on to a body: so not more.
_YOUNG = 10_000
_GENERATIONS = 20


def settle() -> None:
    """Takes all that exists now for permanent: it is looked at no more. Safe to repeat, once more has come to stay."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _GENERATIONS, _GENERATIONS)
