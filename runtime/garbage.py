"""The garbage collector of a process, once it has started.

What the start has made (modules, classes, routes) is there for good. A full collection looks at all of it, some hundred
thousand objects, and everything waits meanwhile: a tenth of a second, again and again.
"""

import gc

_GENERATIONS = 20


def settle(young: int) -> None:
    """Takes all that exists now for permanent: it is looked at no more. Safe to repeat, once more has come to stay.

    `young`: so many new objects, less those that went, between two looks at the young ones.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(young, _GENERATIONS, _GENERATIONS)
