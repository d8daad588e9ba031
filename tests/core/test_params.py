"""Specs are parsed, converted and checked; every mistake is one line that names the owner."""

from dataclasses import dataclass
from typing import Literal

import pytest

from ddbench.core.errors import UserError
from ddbench.core.params import Count, Positive, build, parse_spec, resolved, spec_string


@dataclass(frozen=True)
class Thing:
    tau: Positive = 0.2
    steps: Count = 100
    outer: Literal["ce", "mse"] = "ce"
    bias: bool = True
    limit: int | None = None
    path: str = ""

    name = "thing"


def make(spec):
    return build(Thing, parse_spec(spec)[1], "thing")


def test_values_are_converted_to_their_types():
    assert make("thing[tau=1e-3,steps=5,outer=mse,bias=false,limit=7,path=a/b.npz]") == Thing(
        1e-3, 5, "mse", False, 7, "a/b.npz"
    )
    assert make("thing") == Thing()
    assert make("thing[limit=none]") == Thing()


def test_commas_inside_brackets_do_not_split():
    assert parse_spec("a[b=x[c=1,d=2],e=3]") == ("a", {"b": "x[c=1,d=2]", "e": "3"})


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("thing[taus=1]", r"unknown parameter 'taus': did you mean 'tau'\? known: .* \(of thing\)"),
        ("thing[tau=0]", "thing: tau='0' is not valid: input should be greater than 0"),
        ("thing[steps=1.5]", "thing: steps='1.5' is not valid: .*integer"),
        ("thing[outer=kl]", "thing: outer='kl' is not valid: input should be 'ce' or 'mse'"),
        ("thing[bias=perhaps]", "thing: bias='perhaps' is not valid: .*boolean"),
        ("thing[tau]", r"cannot read 'tau' in .*; write name\[key=value"),
        ("thing[tau=1,tau=2]", "'tau' is given twice"),
        ("thing[tau=1", "cannot read"),
    ],
)
def test_mistakes_are_one_line(spec, message):
    with pytest.raises(UserError, match=message) as error:
        make(spec)
    assert "\n" not in str(error.value)


def test_spec_string_shows_only_what_differs_and_reads_back():
    thing = Thing(tau=0.5, bias=False)
    assert spec_string(thing) == "thing[tau=0.5,bias=false]"
    assert make(spec_string(thing)) == thing
    assert spec_string(Thing()) == "thing"
    assert resolved(thing)["steps"] == 100
