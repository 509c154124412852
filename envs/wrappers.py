"""In: a text environment. Out: the same one with an observation of another shape."""

from __future__ import annotations

import gymnasium
from gymnasium.utils import RecordConstructorArgs

from .spaces import UnicodeText

DEFAULT_TEMPLATE = "A worked solution with parts hidden:\n{scaffold}\n\n{text}"


class FlattenScaffold(
    gymnasium.ObservationWrapper[str, str, dict[str, str]], RecordConstructorArgs
):
    """Makes the observation one string: the scaffold, when there is one, and the text.

    >>> import gymnasium
    >>> env = FlattenScaffold(gymnasium.make("maskgym:maskgym/Math-v0", scaffold="all"))
    """

    def __init__(
        self, env: gymnasium.Env[dict[str, str], str], *, template: str = DEFAULT_TEMPLATE
    ) -> None:
        """`template` holds {scaffold} and {text} once each; bare, the text stands alone."""
        for name in ("{scaffold}", "{text}"):
            if template.count(name) != 1:
                raise ValueError(f"The template must hold {name} exactly once; it is {template!r}.")
        RecordConstructorArgs.__init__(self, template=template)
        gymnasium.ObservationWrapper.__init__(self, env)
        self.template = template
        self.observation_space = UnicodeText(2**31 - 1)

    def observation(self, observation: dict[str, str]) -> str:
        """One string."""
        scaffold, text = observation["scaffold"], observation["text"]
        if not scaffold:
            return text
        values = {"{scaffold}": scaffold, "{text}": text}
        names = sorted(values, key=self.template.index)
        # Cut at the two places rather than replaced, as the scaffold itself may say "{text}".
        before, _, rest = self.template.partition(names[0])
        between, _, after = rest.partition(names[1])
        return before + values[names[0]] + between + values[names[1]] + after
