"""CPU seconds and peak memory of commands that compute nothing: `python -P tools/startup.py`. Prints a Markdown table."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

RECORDS = Path(__file__).resolve().parents[1] / "results/reference/ipc1/digits.json.gz"
COMMANDS = (
    "--help",
    "list",
    "list backbones '*dino*'",
    f"merge {RECORDS} --into run",
    "table run",
    "table run --metric summary",
    "table run --versus random",
    "table run --against published",
    "show set",
    "run -m clpd",
    "run -m clpdd -b resnet18",
    "run -m clpdd -d 'folder[path=nowhere]'",
    "run -m 'clpdd[steps=x]' --dry-run",
    "run --suite nowhere.yaml --dry-run",
    "run -m clpdd --dry-run --out afile",
    "evaluate nowhere",
    "table nowhere",
    "check nix",
)


def main() -> None:
    print("| command | exit code | CPU s | MB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "afile").touch()
        make_set(Path(folder, "set"))
        for command in COMMANDS:
            code, seconds, megabytes = measured(command, folder)
            print(
                f"| `ddbench {command.replace(str(RECORDS), RECORDS.name)}` | {code} | {seconds:.2f} | {megabytes:.0f} |",
                flush=True,
            )


def make_set(folder: Path) -> None:
    """A set of one image, by the process of its own that torch needs."""
    program = (
        "import sys, torch; from ddbench import DistilledSet\n"
        "DistilledSet(torch.zeros(1, 3, 4, 4), torch.zeros(1, dtype=torch.long), ('a',)).save(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-P", "-c", program, str(folder)], check=True)


def measured(command: str, folder: str) -> tuple[int, float, float]:
    """Exit code, CPU seconds and peak resident MB of `ddbench COMMAND` in `folder`."""
    words = ["sh", "-c", f'exec "{sys.executable}" -P -m ddbench {command}']
    process = subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


if __name__ == "__main__":
    main()
