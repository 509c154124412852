"""In: nothing. Out: the ids maskgym/Math-v0, maskgym/Code-v0, maskgym/Search-v0 in Gymnasium."""

from __future__ import annotations

import difflib
import importlib

import gymnasium

# As text, so that registering imports nothing; a spawned worker resolves it by itself.
ENTRY_POINTS = {
    "maskgym/Math-v0": "maskgym.envs.math:MathEnv",
    "maskgym/Code-v0": "maskgym.envs.code:CodeEnv",
    "maskgym/Search-v0": "maskgym.envs.search:SearchEnv",
}
ENV_IDS = tuple(ENTRY_POINTS)


def register_envs() -> None:
    """Makes the ids known to Gymnasium; doing it again changes nothing."""
    for name, entry_point in ENTRY_POINTS.items():
        if name not in gymnasium.registry:
            gymnasium.register(id=name, entry_point=entry_point)


def find_env_id(name: str) -> str:
    """The registered id that `name` means: "search", "Search-v0", a full id, or "module:id".

    Raises:
        LookupError: If there is none; the message offers the nearest.
        ImportError: If "module:id" names a module that cannot be imported.
    """
    module, _, plain = name.rpartition(":")
    if module:
        importlib.import_module(module)
    for candidate in (plain, f"maskgym/{plain}", f"maskgym/{plain.capitalize()}-v0"):
        if candidate in gymnasium.registry:
            return f"{module}:{candidate}" if module else candidate
    near = difflib.get_close_matches(plain, gymnasium.registry, n=1, cutoff=0.6)
    nearest = near or difflib.get_close_matches(f"maskgym/{plain}", ENV_IDS, n=1, cutoff=0.0)
    raise LookupError(
        f"No environment {name!r}. Did you mean {nearest[0]!r}? "
        f"maskgym brings {', '.join(ENV_IDS)}; "
        'one of your own is written "your_module:your/Env-v0".'
    )
