"""Seeds of independent random streams, derived from one seed by name."""

import hashlib


def derive_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed from (seed, purpose), the same on every machine."""
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1
