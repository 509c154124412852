"""Procedural task families with exact targets and expert traces by construction."""

from .chains import ArithmeticChains
from .families import testbed
from .family import TaskFamily
from .programs import SmallPrograms
from .world import FictionalWorld

__all__ = ["ArithmeticChains", "FictionalWorld", "SmallPrograms", "TaskFamily", "testbed"]
