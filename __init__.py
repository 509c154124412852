"""maskgym: multi-turn Gymnasium environments, masked expert traces and GRPO for tool-using agents.

`import maskgym` registers the environment ids and imports nothing heavy.
"""

import maskgym.envs  # absolute on purpose: pytest loads this file under the folder's own name

__all__ = ["__version__", "envs"]

__version__ = "0.1.0"

envs = maskgym.envs
