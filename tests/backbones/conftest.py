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
