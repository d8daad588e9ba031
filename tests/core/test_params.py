"""Specs are parsed, converted and checked; every mistake is one line that names the owner."""

from dataclasses import dataclass
from typing import Literal

import pytest

from ddbench.core.errors import UserError
from ddbench.core.params import Count, Positive, build, parse_spec, resolved, spec_string, write_spec


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
    "path",
    [
        "a, b/c",
        "a]b",
        "[",
        "o'brien",
        "'quoted'",
        'say "hi", then',
        " edges ",
        "x=[1,2",
        "a,b=c",
        "none",
        "",
        "ünï çødé",
        "lgm[a=1,b=2]",
    ],
)
def test_any_path_can_be_written_and_is_read_back(path):
    thing = Thing(path=path)
    assert make(spec_string(thing)) == thing
    assert parse_spec(write_spec("name", {"path": path, "other": "1"})) == ("name", {"path": path, "other": "1"})


def test_quotes_are_for_values_that_need_them():
    assert spec_string(Thing(path="a/b")) == "thing[path=a/b]"
    assert spec_string(Thing(path="a,b")) == 'thing[path="a,b"]'
    assert make("thing[path='a, b]',tau=0.5]") == Thing(path="a, b]", tau=0.5)
    assert make("thing[path=o'brien,tau=0.5]") == Thing(path="o'brien", tau=0.5)


def test_a_message_does_not_repeat_what_is_long():
    for spec in ("x" * 5000 + "!", f"thing[{'y' * 5000}]", f"thing[tau={'z' * 5000}]", f"thing[{'k' * 5000}=1]"):
        with pytest.raises(UserError) as error:
            make(spec)
        assert len(str(error.value)) < 500


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
        ("thing[path=a]]", "brackets or quotes do not match"),
        ("thing[path='a]", "brackets or quotes do not match"),
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
