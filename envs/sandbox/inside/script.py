"""In: a program's source. Out: it runs once, as `main.py`; its exit code."""

from . import program


def serve(source: bytes, channel: int) -> int:
    """Runs the program; a script has no channel."""
    del channel
    return program.execute(source, "main.py", program.fresh_main("main.py").__dict__)
