"""Updates of several methods that learn in step."""

from __future__ import annotations

from mtrepro.methods import Method, Together


class Updates:
    """One update of each of some methods: together where the method can, else one after the other.

    Args:
        apart: never together.
    """

    def __init__(self, apart: bool = False) -> None:
        self.apart = apart
        self.methods: list[Method] = []
        self.together: Together | None = None

    def __call__(self, methods: list[Method]) -> None:
        if methods != self.methods:
            find = getattr(type(methods[0]), "together", None) if len(methods) > 1 and not self.apart else None
            self.together = None  # its memory goes before another's is taken
            self.methods, self.together = methods, find(methods) if find else None
        if self.together is not None:
            self.together.learn()
            return
        for method in methods:
            method.learn()
