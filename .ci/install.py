"""Find or make a Python environment that holds ddbench, and print the path of its interpreter.

    [TORCH=cpu] python3 .ci/install.py [--extra test] [--extra dev]

Used by the Makefile; runs on any Python 3 with nothing installed. The environment is the first of these that is there:

1. PYTHON=... of the caller, taken as it is
2. .venv in this folder
3. the active environment (virtualenv, conda, or `python3`), if it holds torch and torchvision that are new enough: installed
   into directly if it is a virtualenv or conda environment, else through a .venv that sees its packages
4. a new .venv

torch and torchvision that are there already are never replaced; without them pip chooses plain `torch`, or with TORCH=cpu the
build without NVIDIA's libraries, from PyTorch's own index (TORCH_INDEX=... names another).
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
VENV = ROOT / ".venv"
OLDEST = (3, 11)
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

# Run inside a candidate interpreter: prints one fact per line.
FACTS = """
import importlib.metadata as m, os, sys, sysconfig
v = lambda name: tuple(int(p) for p in m.version(name).split("+")[0].split(".")[:2] if p.isdigit())
def have(name, least):
    try: return v(name) >= least
    except Exception: return False
print("python", int(sys.version_info >= %r))
print("torch", int(have("torch", (2, 6)) and have("torchvision", (0, 21))))
print("setuptools", int(have("setuptools", (77, 0))))
print("pip", int(have("pip", (0, 0))))
home = sysconfig.get_paths()["purelib"]
managed = os.path.exists(os.path.join(sysconfig.get_paths()["stdlib"], "EXTERNALLY-MANAGED"))
isolated = sys.prefix != sys.base_prefix or os.path.isdir(os.path.join(sys.prefix, "conda-meta"))
print("own", int(isolated and os.access(home, os.W_OK) and not (managed and sys.prefix == sys.base_prefix)))
""" % (OLDEST,)

# Prints the requirements of pyproject.toml (with the given extras) that the environment does not meet, one per line.
UNMET = """
import importlib.metadata as m, sys, tomllib
try: from packaging.requirements import Requirement
except ImportError: from pip._vendor.packaging.requirements import Requirement
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
for line in project["dependencies"] + [l for e in sys.argv[1:] for l in project["optional-dependencies"][e]]:
    need = Requirement(line)
    try: met = need.specifier.contains(m.version(need.name), prereleases=True)
    except m.PackageNotFoundError: met = False
    if not met: print(line)
"""

PINS = """
import importlib.metadata as m
for name in ("torch", "torchvision"):
    try: print(name + "==" + m.version(name))
    except m.PackageNotFoundError: pass
"""


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--extra", action="append", default=[])
    extras = options.parse_args().extra
    python = choose()
    if not facts(python)["pip"]:  # environments made by uv
        run(python, "-m", "ensurepip", "--default-pip")
    unmet = run(python, "-c", UNMET, *extras, capture=True).splitlines()
    if missing_torch(unmet):
        if os.environ.get("TORCH") == "cpu":
            say("installing torch for the CPU: about 2.7 GB in all, minutes")
            pip(python, "--index-url", os.environ.get("TORCH_INDEX") or CPU_INDEX, *missing_torch(unmet))
            unmet = [line for line in unmet if line not in missing_torch(unmet)]
        else:
            say(size_note(shutil.which("nvidia-smi") is not None))
    if unmet:
        say("installing %s" % ", ".join(unmet))
        pip(python, *unmet, constraints=present(python))
    say("installing ddbench into %s" % python)
    offline = ["--no-build-isolation"] if facts(python)["setuptools"] else []
    pip(python, "--no-deps", *offline, "-e", ".")
    print(python)


def missing_torch(unmet):
    """Those of the missing requirements that are built for the CPU or for CUDA."""
    return [line for line in unmet if re.match(r"torch(vision)?\b", line)]


def size_note(gpu):
    """What installing torch costs, and what would cost less."""
    note = "torch is not there yet: about 5.9 GB in all, several minutes on a fast line"
    if gpu:
        return note
    return note + "; 3.2 GB of it are NVIDIA's libraries, and nvidia-smi finds no GPU: `make install TORCH=cpu` does without"


def choose():
    """The interpreter of the environment to use, made if there is none."""
    if os.environ.get("PYTHON"):
        return checked(shutil.which(os.environ["PYTHON"]) or os.environ["PYTHON"])
    own = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if own.exists():
        return checked(str(own))
    candidates = active()
    for python in candidates:
        known = facts(python)
        if known["python"] and known["torch"]:
            if known["own"]:
                return python
            return make_venv(python, "--system-site-packages")
    for python in candidates:
        if facts(python)["python"]:
            return make_venv(python)
    sys.exit("ddbench needs Python %d.%d or newer; install one, or name it: make PYTHON=/path/to/python" % OLDEST)


def active():
    """Interpreters on the PATH, the active environment's first."""
    names = ["python", "python3", "python3.13", "python3.12", "python3.11", "python3.14"]
    found = [shutil.which(name) for name in names]
    return list(dict.fromkeys(path for path in found if path))


def checked(python):
    if not facts(python)["python"]:
        sys.exit("%s is no Python %d.%d or newer" % (python, *OLDEST))
    return python


def facts(python):
    try:
        lines = run(python, "-c", FACTS, capture=True).splitlines()
    except (OSError, subprocess.CalledProcessError):  # not a working interpreter
        return {"python": False, "torch": False, "setuptools": False, "pip": False, "own": False}
    return {key: value == "1" for key, value in (line.split() for line in lines)}


def make_venv(python, *options):
    say("making .venv with %s" % " ".join([python, *options]))
    try:
        run(python, "-m", "venv", *options, str(VENV))
    except subprocess.CalledProcessError:
        shutil.rmtree(str(VENV), ignore_errors=True)
        sys.exit("%s cannot make a virtual environment; on Debian and Ubuntu: apt install python3-venv" % python)
    return str(VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))


def present(python):
    """Pins of the torch and torchvision that are there, so that pip leaves them alone."""
    return run(python, "-c", PINS, capture=True)


def pip(python, *arguments, constraints=""):
    environment = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1")
    if constraints:
        file = ROOT / "build" / "constraints.txt"
        file.parent.mkdir(exist_ok=True)
        file.write_text(constraints)
        environment["PIP_CONSTRAINT"] = str(file)
    code = subprocess.call([python, "-m", "pip", "install", "--quiet", *arguments], cwd=str(ROOT), env=environment, stdout=2)
    if code:
        sys.exit("pip could not install %s; the lines above say why (no network?)" % " ".join(arguments))


def run(python, *arguments, capture=False):
    done = subprocess.run(
        [python, *arguments], cwd=str(ROOT), check=True, universal_newlines=True, stdout=subprocess.PIPE if capture else 2,
        stderr=subprocess.PIPE if capture else None,
    )  # fmt: skip
    return done.stdout


def say(text):
    print("ddbench: " + text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
