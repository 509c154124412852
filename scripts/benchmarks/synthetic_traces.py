"""Made-up traces: a random generator in, long worked solutions, alias lists and texts of names out."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

_SENTENCES = (
    "Okay, let us set $x = {}$ first and look at what the two conditions say about it.",
    "Step {i}: from $x^2 - {}x + {} = 0$ the discriminant is ${}$.",
    "Then {} + {} = {}, so the first bag holds {} and the second one holds the rest.",
    "Wait, that cannot be right, since the remainder has to be smaller than {}.",
    "Case {i}. If $n \\equiv {} \\pmod{{{i}}}$, the sum is {} and nothing else is possible.",
    "That is twenty-one percent of the whole, or about {} when we round it.",
    "\\[ \\sum_{{k=1}}^{{{i}}} k^2 = {}, \\qquad \\int_0^1 f(t)\\,dt = {} \\]",
    "We can check this another way: half of {} is {}, and three times that is {}.",
    "Nothing in the question speaks against it, so we keep this value and go on.",
    "{i}. The ratio of the two areas is {} to {}, whatever the side may be.",
    "Hence the probability of the event is {}, and the expected number is {}.",
    "On 14 March 2019 the price went from ${} to ${}, which is a rise by {}\\%.",
)
_FORMS = (
    (50, "{a}"),
    (12, "{a}.{b}"),
    (10, "\\frac{{{a}}}{{{b}}}"),
    (5, "\\sqrt{{{a}}}"),
    (6, "{a}/{b}"),
    (4, "{a}\\%"),
    (3, "{a}.{b} \\times 10^{{{c}}}"),
    (6, "-{a}"),
    (4, "1{b},{d}"),
)
_SYLLABLES = re.findall(
    r"\w+",
    "ba be bor bran cal dan del dor el far gar hal in jor kel la lin mar mon na nor ol pen ra ros "
    "sa sel tan tor ul van ver wil yor zan",
)
_WORDS = re.findall(
    r"\w+",
    "the first of them was born in a town near river and later moved to work with his brother who "
    "had founded a company that made clocks for ships until it closed during war",
)


def math_trace(rng: random.Random, num_chars: int) -> str:
    """A worked solution of about this many characters, ending in a box."""
    lines: list[str] = []
    length = 0
    while length < num_chars:
        sentence = rng.choice(_SENTENCES)
        numbers = [_number(rng) for _ in range(sentence.count("{}"))]
        lines.append(sentence.format(*numbers, i=rng.randint(1, 9)))
        length += len(lines[-1]) + 1
    lines.append(f"So the answer is \\boxed{{{_number(rng)}}}.")
    return "\n".join(lines)


def aliases(rng: random.Random, num: int) -> list[str]:
    """Distinct names of two words, as those of people and places."""
    names: dict[str, None] = {}
    while len(names) < num:
        names[f"{_name(rng)} {_name(rng)}"] = None
    return list(names)


def alias_text(rng: random.Random, names: Sequence[str], num_chars: int) -> str:
    """Prose of about this many characters in which every hundredth word is one of the names."""
    words: list[str] = []
    length = 0
    while length < num_chars:
        words.append(rng.choice(names) if rng.random() < 0.01 else rng.choice(_WORDS))
        length += len(words[-1]) + 1
    return " ".join(words)


def _number(rng: random.Random) -> str:
    (form,) = rng.choices([form for _, form in _FORMS], [weight for weight, _ in _FORMS])
    return form.format(
        a=rng.randint(1, 999), b=rng.randint(1, 99), c=rng.randint(-9, 9), d=rng.randint(100, 999)
    )


def _name(rng: random.Random) -> str:
    return "".join(rng.choices(_SYLLABLES, k=rng.randint(2, 4))).capitalize()
