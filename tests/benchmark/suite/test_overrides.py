"""Stand-ins: `--override OLD=NEW` swaps specs of a suite before they are checked, and keeps their records apart."""

import argparse

import pytest

from ddbench.benchmark.cli import main, parser
from ddbench.benchmark.commands.run import suites_of
from ddbench.benchmark.suite.overrides import Overrides
from ddbench.benchmark.suite.suite import load_suite
from ddbench.core.errors import UserError

SUITE = """
name: paper
methods: ["lgm[copies=3]", random]
backbones: ["no_such_net[normalise=imagenet]"]
datasets: ["imagenet[root=a]", digits]
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "paper.yaml"
    path.write_text(SUITE)
    return path


def test_the_equals_sign_outside_brackets_divides():
    assert Overrides.parse(["lgm[copies=3]=lgm[steps=5]"]).specs == {"lgm[copies=3]": "lgm[steps=5]"}
    for text in ("lgm", "lgm=", "=lgm", "lgm[copies=3]"):
        with pytest.raises(UserError, match="OLD=NEW"):
            Overrides.parse([text])


def test_a_whole_spec_goes_before_a_name():
    overrides = Overrides({"lgm": "random", "lgm[copies=3]": "herding"})
    assert [overrides.swap(spec) for spec in ("lgm", "lgm[copies=3]", "lgm[copies=5]", "full")] == [
        "random", "herding", "random", "full",
    ]  # fmt: skip


def test_specs_inside_specs_are_swapped_and_other_values_are_not():
    overrides = Overrides({"lgm": "lgm[steps=2]", "imagenet": "digits"})
    assert overrides.swap("neighbors[of=lgm[copies=3],folder=none]") == "neighbors[of=lgm[steps=2],folder=none]"
    assert overrides.swap("clip_vitb16[normalise=imagenet]") == "clip_vitb16[normalise=imagenet]"
    overrides.check([{"methods": ["neighbors[of=lgm]"], "datasets": ["imagenet"]}])


def test_specs_that_plus_joins_are_swapped_one_by_one():
    overrides = Overrides({"mini_vit_mae": "mini_vit_simclr[weights=a+b]", "no_such_net": "mini_vit_mae"})
    spec = "duet[also=mini_resnet_dino+mini_vit_mae+no_such_net,augment=flip+crop]"
    swapped = "duet[also=mini_resnet_dino+mini_vit_simclr[weights=a+b]+mini_vit_mae,augment=flip+crop]"
    assert overrides.swap(spec) == swapped
    assert overrides.swap(swapped) == swapped.replace("]+mini_vit_mae", "]+mini_vit_simclr[weights=a+b]")
    overrides.check([{"methods": [spec]}])


@pytest.mark.parametrize("value", ["a/b", "c++", "lgm + x", "[lgm]", "lgm:of=random", "unknown[of=lgm]"])
def test_values_that_are_no_specs_stay_as_they_are(value):
    """Parameters of other people's plugins may have the same names and hold anything."""
    for overrides in (Overrides(), Overrides({"random": "full"})):
        assert overrides.apply({"methods": [f"thing[of={value}]"]}) == {"methods": [f"thing[of={value}]"]}
    with pytest.raises(UserError, match="the suites have no 'random'"):
        Overrides({"random": "full"}).check([{"methods": [f"thing[of={value}]"]}])


def test_suites_that_run_together_share_their_stand_ins(file, tmp_path):
    other = tmp_path / "other.yaml"
    other.write_text("methods: [herding]\nbackbones: [mini_vit_simclr]\n")
    both = (
        "--suite",
        str(file),
        "--suite",
        str(other),
        "--override",
        "no_such_net=mini_vit_mae",
        "--override",
        "herding=kmeans",
    )
    found = suites_of(parsed(*both))
    assert [suite.methods for suite in found] == [["lgm[copies=3]", "random"], ["kmeans"]]
    assert [suite.name for suite in found] == ["paper-override", "other-override"]
    with pytest.raises(UserError, match=r"the suites have no 'clip'; they have .*herding"):
        suites_of(parsed(*both, "--override", "clip=mini_vit_mae"))


def test_specs_are_swapped_before_they_are_checked(file):
    with pytest.raises(UserError, match=r"paper.yaml:4: unknown backbone 'no_such_net'"):
        load_suite(file)
    swapped = load_suite(file, Overrides({"no_such_net": "mini_vit_mae", "imagenet": "digits", "lgm": "lgm[steps=2]"}))
    assert (swapped.methods, swapped.backbones, swapped.datasets) == (
        ["lgm[steps=2]", "random"], ["mini_vit_mae"], ["digits", "digits"],
    )  # fmt: skip


def test_a_stand_in_for_nothing_is_an_error_that_lists_what_there_is(file):
    with pytest.raises(UserError, match=r"the suites have no 'clip'; they have .*no_such_net"):
        load_suite(file, Overrides({"no_such_net": "mini_vit_mae", "clip": "mini_vit_mae"}))


def parsed(*argv: str) -> argparse.Namespace:
    return parser().parse_args(["run", *argv])


def test_records_of_stand_ins_get_a_folder_of_their_own(file):
    (suite,) = suites_of(parsed("--suite", str(file), "--override", "no_such_net=mini_vit_mae"))
    assert suite.name == "paper-override"


def test_override_needs_a_suite(capsys):
    assert main(["run", "-m", "random", "--override", "random=full"]) == 2
    assert "give --suite" in capsys.readouterr().err


def test_a_published_table_that_does_not_exist_is_told_before_anything_runs(tmp_path, capsys):
    (tmp_path / "a.yaml").write_text("methods: [random]\nbackbones: [mini_vit_mae]\nclaims: lgm-7\n")
    assert main(["run", "--suite", str(tmp_path / "a.yaml"), "--out", str(tmp_path / "out")]) == 2
    assert "unknown published table 'lgm-7'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
