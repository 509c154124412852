"""What a vLLM server of ours has beside vLLM: weights from files, and the version of the weights it holds.

Named on the server's command line (`--worker-extension-cls`), so that this module is imported by each of
its workers before the model is loaded. See `vllm_server.serve_command`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import vllm._custom_ops as ops
from torch import Tensor
from vllm.platforms import current_platform

if current_platform.is_cpu():
    # oneDNN packs weights into handles and leaves empty parameters: an update of a tied head would
    # silently do nothing.
    ops._supports_onednn = False


class WeightExtension:
    """Methods that `POST /collective_rpc` can call on every worker; arguments come as texts."""

    # Class attributes: vLLM adds this class as a base without calling its constructor.
    maskgym_version = "0"

    def maskgym_load_weights(self: Any, folder: str, version: str) -> str:
        """Loads all `*.safetensors` of a folder, by the names of the Hugging Face checkpoint."""
        self.maskgym_version = "half-way"
        self.reload_weights(weights_iterator=_tensors(Path(folder)))
        self.maskgym_version = version
        return version

    def maskgym_set_version(self: Any, version: str) -> str:
        """Notes the version of weights that came another way."""
        self.maskgym_version = version
        return version

    def maskgym_state(self: Any) -> dict[str, str]:
        """The version given last ("0" for the weights that the server started with), and settings."""
        config = self.vllm_config.model_config
        splits_prompts = self.vllm_config.scheduler_config.enable_chunked_prefill
        return {
            "version": self.maskgym_version,
            "logprobs_mode": str(config.logprobs_mode),
            "dtype": str(config.dtype).removeprefix("torch."),
            "seeds": "break" if splits_prompts and current_platform.is_cpu() else "work",
        }


def _tensors(folder: Path) -> Iterator[tuple[str, Tensor]]:
    from safetensors import safe_open

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"There are no weights in {str(folder)!r}: is it shared?")
    for file in files:
        with safe_open(file, framework="pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 (not a mapping)
                yield name, tensors.get_tensor(name)
