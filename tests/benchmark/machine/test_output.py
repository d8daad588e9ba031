"""A reader that goes away, or a full disk, changes neither the work nor its exit code."""

import os
import sys

import pytest

from ddbench.benchmark import cli
from ddbench.benchmark.machine.output import Output


@pytest.fixture
def command(monkeypatch):
    """`ddbench` with a command that prints much and finds a regression."""
    ran = []

    class Args:
        def command(self, args):
            for _ in range(10_000):
                print("WORSE")
            ran.append(True)
            return 1

    monkeypatch.setattr(cli, "parser", lambda: type("P", (), {"parse_args": lambda self, argv: Args()})())
    return ran


def test_a_closed_pipe_keeps_the_exit_code(command, monkeypatch, capfd):
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))
    assert cli.main([]) == 1
    assert command == [True]
    sys.stdout.close()  # what is left in the buffer goes nowhere
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_one_line_and_no_success(command, monkeypatch, capfd):
    monkeypatch.setattr(cli, "_run", lambda argv: print("a table") or 0)
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert cli.main([]) == 1
    assert capfd.readouterr().err == "ddbench: error: cannot write the output: No space left on device\n"


def test_the_rest_is_that_of_the_stream(capsys):
    output = Output(sys.stdout)
    print("as ever", file=output)
    output.flush()
    assert (output.isatty(), output.encoding, output.complaint) == (False, sys.stdout.encoding, None)
    assert capsys.readouterr().out == "as ever\n"
