"""What the tests of sources share: a backbone by its spec, and the one line that a bad spec ends with."""

import pytest

from ddbench.core.backbone import BACKBONES, Backbone
from ddbench.core.errors import UserError


def load(spec: str) -> Backbone:
    return BACKBONES.create(spec).load()


def message(spec: str) -> str:
    with pytest.raises(UserError) as error:
        load(spec)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def unfolded(monkeypatch):
    """Backbones with the network as it was loaded, for tests that compare weights with a file."""
    monkeypatch.setattr("ddbench.core.backbone.folded", lambda network: (network, 0))
