"""A pass of the checker whose units do what a test wants."""

from __future__ import annotations

from collections.abc import Callable

from wofs.check.state import State


class Doing:
    """A pass whose units do what a test wants."""

    units = range(8)

    def __init__(self, state: State, do: Callable[[State], None]) -> None:
        self.state = state
        self.do = do

    def begin(self) -> None:
        """Nothing was found before."""

    def work(self, unit: int) -> None:
        self.do(self.state)

    def take(self, unit: int) -> int:
        return unit

    def add(self, unit: int, found: object) -> None:
        assert unit == found

    def take_rest(self) -> None:
        """Nothing was gathered."""

    def add_rest(self, found: object) -> None:
        """Nothing was gathered."""
