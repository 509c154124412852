"""A model folder in, the causal language model in it out, ready to train."""

from pathlib import Path

import torch


def load_model(
    folder: str | Path, *, dtype: str = "float32", device: str | None = None
) -> torch.nn.Module:
    """The causal language model of a folder, ready to train.

    Raises:
        FileNotFoundError: If the folder does not exist or holds no `config.json`.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    path = Path(folder)
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"No model in {str(path)!r}: a model folder holds config.json, weights and a tokenizer. "
            "`maskgym demo` makes a small one; otherwise give the folder of a downloaded model."
        )
    logging.disable_progress_bar()  # it outlasts the loading of a small model and hides ours
    model: torch.nn.Module = AutoModelForCausalLM.from_pretrained(
        str(path), dtype=getattr(torch, dtype)
    )
    if device is None:
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return model.to(device)
