"""No cheat: the right answer."""


def f(x: int) -> int:
    return x * 2 + 1
