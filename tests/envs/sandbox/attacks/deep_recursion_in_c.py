"""Recurses in C until the stack ends."""

nested: tuple[object, ...] = ()
for _ in range(10**6):
    nested = (nested,)
hash(nested)
