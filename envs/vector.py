"""In: an environment id and a number. Out: a vector environment whose texts arrive whole."""

from __future__ import annotations

from typing import Any, Literal

import gymnasium
from gymnasium.vector import AutoresetMode, VectorEnv

from .registration import find_env_id


def make_vec(
    id: str,
    num_envs: int,
    vectorization_mode: Literal["sync", "async"] = "sync",
    *,
    context: Literal["spawn", "fork", "forkserver"] | None = None,
    daemon: bool = True,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    **settings: Any,
) -> VectorEnv[Any, Any, Any]:
    """`num_envs` copies of an environment behind Gymnasium's vector interface, safe for text.

    `gymnasium.make_vec` in async mode sends observations through shared memory, which returns text
    as '000...' for ever; here they travel through pipes.

    Args:
        id: A registered id, or a short name such as "search".
        num_envs: How many copies.
        vectorization_mode: "sync", one after the other in this process, or "async", a process each.
        context: How worker processes start (async only); None for the platform's own way.
        daemon: Whether workers end with this process (async only); False if an environment starts
            processes through `multiprocessing` itself.
        autoreset_mode: When a copy whose episode is over starts the next one. `SAME_STEP` puts the
            last observation and info into `final_obs` and `final_info`.
        settings: For each environment.
    """
    if vectorization_mode not in ("sync", "async"):
        raise ValueError(f"vectorization_mode is {vectorization_mode!r}; use 'sync' or 'async'.")
    vector_kwargs: dict[str, Any] = {"autoreset_mode": AutoresetMode(autoreset_mode)}
    if vectorization_mode == "async":
        vector_kwargs |= {"shared_memory": False, "context": context, "daemon": daemon}
    return gymnasium.make_vec(
        find_env_id(id),
        num_envs=num_envs,
        vectorization_mode=vectorization_mode,
        vector_kwargs=vector_kwargs,
        **settings,
    )
