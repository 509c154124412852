"""In: a data repository of the Hugging Face hub and a file in it. Out: where the file lies here."""

from __future__ import annotations

from pathlib import Path

_PROBE_TIMEOUT_S = 10.0


class HubError(OSError):
    """The hub gave no file; the message says why."""


def hub_file(repo: str, name: str) -> Path:
    """The file `name` of the data repository `repo`: from the hub's cache, else downloaded into it.

    Raises:
        HubError: If it cannot be had, or huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import constants, get_session, hf_hub_download
        from huggingface_hub.errors import LocalEntryNotFoundError
    except ImportError as error:
        raise HubError("huggingface_hub is not installed, so the hub cannot be asked") from error
    try:
        try:
            return Path(hf_hub_download(repo, name, repo_type="dataset", local_files_only=True))
        except LocalEntryNotFoundError:
            # One request without repetitions: where there is no network, a download would repeat
            # its own for 20 seconds.
            if not constants.HF_HUB_OFFLINE:
                get_session().head(constants.ENDPOINT, timeout=_PROBE_TIMEOUT_S)
            return Path(hf_hub_download(repo, name, repo_type="dataset"))
    except Exception as error:  # what it raises has no class in common, and the remedy is the same
        first_line = str(error).strip().partition("\n")[0]
        raise HubError(f"the hub gave none ({type(error).__name__}: {first_line[:200]})") from error
