"""The wheel holds the whole program and nothing else, and works away from the repository."""

import zipfile

from .conftest import ROOT

FOLDERS = ("benchmark", "methods", "evaluation", "backbones", "datasets", "core")


def test_the_wheel_holds_every_module_and_the_mini_weights(wheel):
    held = set(zipfile.ZipFile(wheel).namelist())
    for folder in FOLDERS:
        for file in (ROOT / folder).rglob("*"):
            if file.suffix in (".py", ".safetensors") or (file.suffix == ".json" and "mini" in file.parts):
                assert f"ddbench/{file.relative_to(ROOT)}" in held, f"add the folder of {file.name} to pyproject.toml"


def test_the_wheel_holds_one_namespace_without_tests_and_results(wheel):
    held = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in held}
    assert "ddbench" in tops
    assert all(top == "ddbench" or top.endswith(".dist-info") for top in tops)
    assert not [name for name in held if "/test" in name or name.startswith("results")]
    assert any(name.endswith("licenses/LICENSE") for name in held)


def test_it_runs_beside_hugging_face_datasets_from_another_folder(installed, elsewhere, tmp_path):
    other = tmp_path / "site"
    (other / "datasets").mkdir(parents=True)
    (other / "datasets" / "__init__.py").write_text("who = 'hugging face'\n")
    program = (
        "import datasets, ddbench, ddbench.datasets, ddbench.methods\n"
        "from ddbench.core.data import DATASETS\n"
        "from ddbench.core.backbone import BACKBONES\n"
        "print(datasets.who, ddbench.__file__, ddbench.methods.__file__, *DATASETS.names(), *BACKBONES.names())\n"
        "print(ddbench.distill('random', backbone=None, data='digits').num_classes)\n"
        "import sys\n"  # an editable install in the same environment must not fill in for what the wheel lacks
        "print({m.__file__.split('/ddbench/')[0] for n, m in sys.modules.items() if n.startswith('ddbench')})\n"
    )
    printed = elsewhere("-c", program, path=[installed, other])
    assert printed.startswith(f"hugging face {installed}/ddbench/__init__.py {installed}/ddbench/methods/__init__.py")
    assert " digits" in printed
    assert printed.splitlines()[-2:] == ["10", f"{{'{installed}'}}"]


def test_help_answers_without_importing_torch(installed, elsewhere):
    program = (
        "import sys\nfrom ddbench.benchmark.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'numpy', 'timm', 'pydantic'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    assert "run" in elsewhere("-c", program, path=[installed])
