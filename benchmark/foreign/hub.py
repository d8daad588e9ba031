"""Sets on the Hugging Face hub: what `ddbench export --format hf` writes goes up, and comes back by `hf:OWNER/NAME`.

Only `set.json` and `set.safetensors` are read of a repository: nothing of it is run or unpickled.
"""

import os
import tempfile
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from .write import export_set


def push(folder: Path, repo: str, private: bool = False) -> str:
    """Upload the set in `folder` into the dataset repository `repo` (OWNER/NAME), made if it is not there; returns its address.
    Raises `UserError`."""
    hub = _hub()
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with tempfile.TemporaryDirectory() as temporary:
        made = export_set(folder, "hf", Path(temporary) / "set")
        with _told(hub, repo):
            api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
            api.upload_folder(folder_path=made, repo_id=repo, repo_type="dataset", commit_message="A set distilled by ddbench")
    return f"{api.endpoint}/datasets/{repo}"


def fetched(repo: str, into: Path) -> Path:
    """The set of the dataset repository `repo` in the folder `into`. Raises `UserError`."""
    hub = _hub()
    for name in ("set.json", "set.safetensors"):
        with _told(hub, repo):
            hub.hf_hub_download(repo, name, repo_type="dataset", local_dir=into, endpoint=os.environ.get("HF_ENDPOINT"))
    return into


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError("the hub needs huggingface_hub: pip install 'ddbench[hub]'") from None
    return huggingface_hub


class _told:
    """What the hub refuses, as one line."""

    def __init__(self, hub: Any, repo: str) -> None:
        self.hub, self.repo = hub, repo

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from huggingface_hub.errors import (
            EntryNotFoundError,
            HfHubHTTPError,
            HFValidationError,
            LocalEntryNotFoundError,
            RepositoryNotFoundError,
        )

        if isinstance(error, LocalEntryNotFoundError):  # an EntryNotFoundError too
            raise UserError(f"the hub cannot be reached for {self.repo}: connect, or unset HF_HUB_OFFLINE") from None
        if isinstance(error, EntryNotFoundError):
            raise UserError(f"{self.repo} holds no set of ddbench: no set.json and set.safetensors") from None
        if isinstance(error, RepositoryNotFoundError):
            raise UserError(f"no dataset repository {self.repo}, or it is not yours to read: `hf auth login`") from None
        if isinstance(error, HFValidationError | HfHubHTTPError | OSError | RuntimeError | ValueError):
            raise UserError(f"hub, {self.repo}: {' '.join(str(error).split())}; logged in? `hf auth login`") from None
