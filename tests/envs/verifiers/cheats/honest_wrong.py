"""No cheat: a wrong answer."""


def f(x: int) -> int:
    return -1
