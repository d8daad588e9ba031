"""The card beside the weights of the zoo, and whether it is theirs."""

import json
from pathlib import Path
from typing import Any

from ...core.errors import UserError
from .._weights import existing, file_sha256


def verified(weights: Path) -> dict[str, Any]:
    """The card of `weights`, after comparing their sha256. Raises `UserError` naming the file that is wrong."""
    card = read_card(existing(weights).with_suffix(".json"))
    found = file_sha256(weights)
    if found != card["sha256"]:
        raise UserError(
            f"{weights} has sha256 {found[:12]}…, its card says {card['sha256'][:12]}…: the file is damaged or changed; "
            "install ddbench again or train it with make pretrain"
        )
    return card


def read_card(path: Path) -> dict[str, Any]:
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        card["sha256"].lower()
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"card {path} is missing or unreadable ({type(error).__name__}); install ddbench again") from None
    return card
