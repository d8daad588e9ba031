"""Sets of several distil backbones count as transfer only where none of them judges."""

import pytest

from ddbench.benchmark.records.own_and_transfer import is_own, took_part, with_partners
from ddbench.benchmark.report.page import page
from ddbench.benchmark.report.tables import tables
from ddbench.benchmark.report.versus import versus
from ddbench.core.errors import UserError
from ddbench.core.method import METHODS
from ddbench.core.params import spec_string

from ..fake_records import record

A, B, C = "mini_resnet_barlow", "mini_vit_mae", "timm[model=a+b,args=x:1]"


def duet(judge, top1, seed=0, distil=A, also=f"{B}+{C}"):
    return record(f"duet[also={also},steps=5]", distil, judge, seed=seed, top1=top1, params={"also": also, "steps": 5})


def test_all_who_took_part_are_the_distil_backbone():
    (named,) = with_partners([duet(A, 90.0)])
    assert (named["method_spec"], named["distill_backbone"]) == ("duet[also=2 others,steps=5]", f"{A}+{B}+{C}")
    assert named["display"] == {"duet[also=2 others,steps=5]": "duet, 3 backbones"}
    assert with_partners([named]) == [named], "it may be asked twice"
    assert [took_part(named["distill_backbone"], judge) for judge in (A, B, C, "timm[model=a]", None)] == [True] * 3 + [
        False
    ] * 2
    assert [is_own(duet(judge, 1.0)) for judge in (A, B, "mini_vit_dino")] == [True, True, False]


def test_the_page_has_them_and_commands_that_repeat_them():
    pytest.importorskip("jinja2")
    text = page([duet(A, 90.0), duet(B, 70.0), duet("mini_vit_dino", 30.0), record("random", None, A)])
    assert "duet, 3 backbones" in text
    assert f"-m &#39;duet[also={B}+{C},steps=5]&#39; -b {A} " in text


def test_one_spelling_for_one_backbone():
    written = METHODS.create("duet[also=timm[pretrained=true,model=resnet10t,input_size=32]]")
    assert spec_string(written) == spec_string(METHODS.create("duet[also=timm[model=resnet10t,input_size=32,pretrained=true]]"))


def test_one_spec_with_two_defaults_is_refused():
    old, new = ({"params": {"anchor": anchor}, "method_code": code} for anchor, code in ((20.0, "a"), (200.0, "b")))
    records = [record("duet", A, A, seed=0, **old), record("duet", A, A, seed=1, **new)]
    with pytest.raises(UserError, match="mix duet with anchor = 20.0 and 200.0: its default changed"):
        tables(records, "summary")
    assert tables([records[0], record("duet", A, A, seed=1, params={"other": 1}, method_code="c")], "summary")


@pytest.mark.parametrize(
    "plain", [record("duet", A, B, params={"also": ""}), record("random", None, B), record("unheard-of", A, B)]
)
def test_other_records_stay_as_they_are(plain):
    assert with_partners([plain]) == [plain]


def test_a_set_of_others_is_own_on_all_of_them_and_transfers_to_the_rest():
    records = [duet(A, 90.0), duet(B, 70.0), duet("mini_vit_dino", 30.0)]
    (table,) = tables(records, "summary")
    ((label, values),) = table.rows
    assert label[0] == "duet[also=2 others,steps=5]"
    assert [value.mean for value in values[:2]] == [80.0, 30.0]


def test_paired_with_the_mean_over_sets_of_each():
    """On the backbone left out: 50 of three against 30 and 40 of one each; on its own: each against its own."""
    out = "mini_vit_dino"
    ours = [duet(judge, top1, also=B) for judge, top1 in ((out, 50.0), (A, 90.0), (B, 80.0))]
    single = {(A, out): 30.0, (B, out): 40.0, (A, A): 70.0, (B, B): 75.0, (A, B): 1.0, (B, A): 2.0}
    theirs = [record("centroids", distil, judge, top1=top1) for (distil, judge), top1 in single.items()]
    (table,) = versus([*ours, *theirs], "centroids")
    ((_, gaps),) = table.rows
    assert [gap.mean for gap in gaps] == [pytest.approx((20.0 + 5.0) / 2), 15.0]
