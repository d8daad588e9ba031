"""Sets on the Hugging Face hub: what `ddbench export --format hf` writes goes up, and comes back by `hf:OWNER/NAME`.

Only `set.json` and `set.safetensors` are read of a repository: nothing of it is run or unpickled.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from .write import export_set

_LARGEST = {"set.json": 64 << 20, "set.safetensors": 16 << 30}  # bytes; ImageNet-1k at 10 images of 224 per class has 6 GB


def push(folder: Path, repo: str, private: bool = False) -> str:
    """Upload the set in `folder` into the dataset repository `repo` (OWNER/NAME), made if it is not there; returns its address.
    Raises `UserError`."""
    hub = _hub()
    api = hub.HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
    with tempfile.TemporaryDirectory() as temporary:
        made = export_set(folder, "hf", Path(temporary) / "set")
        with _told(repo):
            api.create_repo(repo, repo_type="dataset", private=private, exist_ok=True)
            api.upload_folder(folder_path=made, repo_id=repo, repo_type="dataset", commit_message="A set distilled by ddbench")
    return f"{api.endpoint}/datasets/{repo}"


def fetched(repo: str, into: Path) -> Path:
    """The set of the dataset repository `repo` in the folder `into`. Raises `UserError`, for files past the limits too."""
    hub = _hub()
    where = {"repo_type": "dataset", "local_dir": into, "endpoint": os.environ.get("HF_ENDPOINT")}
    for name, largest in _LARGEST.items():
        with _told(repo):
            found = hub.hf_hub_download(repo, name, dry_run=True, **where)
        if found.file_size is None or found.file_size > largest:
            size = "unknown size" if found.file_size is None else f"{found.file_size / 1e9:.1f} GB"
            raise UserError(f"{name} of {repo} has {size}; one of up to {largest >> 20} MiB is read: download it yourself")
        with _told(repo):
            hub.hf_hub_download(repo, name, revision=found.commit_hash, **where)
    return into


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError("the hub needs huggingface_hub: pip install 'ddbench[hub]'") from None
    return huggingface_hub


@contextlib.contextmanager
def _told(repo: str) -> Iterator[None]:
    """What the hub refuses, as one line."""
    from huggingface_hub.errors import (
        EntryNotFoundError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        yield
    except LocalEntryNotFoundError:  # an EntryNotFoundError too
        raise UserError(f"the hub cannot be reached for {repo}: connect, or unset HF_HUB_OFFLINE") from None
    except EntryNotFoundError:
        raise UserError(f"{repo} holds no set of ddbench: no set.json and set.safetensors") from None
    except RepositoryNotFoundError:
        raise UserError(f"no dataset repository {repo}, or it is not yours to read: `hf auth login`") from None
    except (HFValidationError, HfHubHTTPError, OSError, RuntimeError, ValueError) as error:
        raise UserError(f"hub, {repo}: {' '.join(str(error).split())}; logged in? `hf auth login`") from None
