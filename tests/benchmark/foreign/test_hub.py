"""Sets go up to a hub and come back: against a local server that speaks the hub's API."""

import base64
import hashlib
import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
import torch

from ddbench.benchmark.cli import main
from ddbench.benchmark.foreign import hub as ours
from ddbench.benchmark.foreign.hub import fetched
from ddbench.core.errors import UserError
from ddbench.core.sets import DistilledSet, class_labels

pytest.importorskip("huggingface_hub", reason="needs huggingface_hub: pip install 'ddbench[hub]'")
COMMIT = "c" * 40


class Hub(BaseHTTPRequestHandler):
    """Repositories of regular files in memory."""

    repos: ClassVar[dict[str, dict[str, bytes]]] = {}

    def log_message(self, *args):
        pass

    def answer(self, content: bytes, code: int = 200, **headers: str):
        self.send_response(code)
        for name, value in {"Content-Length": str(len(content)), "X-Repo-Commit": COMMIT, **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def do_POST(self):
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path == "/api/repos/create":
            asked = json.loads(text)
            self.repos.setdefault("/".join(filter(None, (asked.get("organization"), asked["name"]))), {})
            return self.answer(
                json.dumps({"url": f"http://{self.headers['Host']}/datasets/me/mine", "name": "me/mine"}).encode()
            )
        if self.path == "/api/validate-yaml":
            return self.answer(b'{"errors": [], "warnings": []}')
        if "/preupload/" in self.path:
            files = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in json.loads(text)["files"]]
            return self.answer(json.dumps({"files": files}).encode())
        if "/commit/" in self.path:
            repo = "/".join(self.path.split("/")[3:5])
            for line in map(json.loads, text.decode().splitlines()):
                if line["key"] == "file":
                    self.repos.setdefault(repo, {})[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            done = {"commitUrl": f"http://{self.headers['Host']}/datasets/{repo}/commit/{COMMIT}", "commitOid": COMMIT}
            return self.answer(json.dumps(done).encode())
        return self.answer(b"{}", 404)

    def do_GET(self):
        parts = self.path.split("?")[0].split("/")
        repo = self.repos.get("/".join(parts[2:4]))
        if parts[1] != "datasets" or repo is None:
            return self.answer(b"", 404, X_Error_Code="RepoNotFound")
        content = repo.get("/".join(parts[6:]))
        if content is None:
            return self.answer(b"", 404, X_Error_Code="EntryNotFound")
        return self.answer(content, ETag=f'"{hashlib.sha1(content).hexdigest()}"')

    do_HEAD = do_GET


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    yield Hub.repos
    server.shutdown()
    server.server_close()
    Hub.repos.clear()


def test_a_set_goes_up_with_its_card_and_comes_back_the_same(hub, tmp_path, capsys):
    made = {"method_spec": "clpdd", "distill_backbone": None, "dataset": "digits", "ipc": 1, "distill_seed": 0}
    dset = DistilledSet(torch.rand(10, 3, 8, 8), class_labels(10, 1), tuple(map(str, range(10))), provenance=made)
    dset.save(tmp_path / "set")
    assert main(["push", str(tmp_path / "set"), "me/mine"]) == 0
    assert "ddbench evaluate hf:me/mine" in capsys.readouterr().out
    assert {"README.md", "set.json", "set.safetensors", "train/0/00000.png"} <= hub["me/mine"].keys()
    back = DistilledSet.load(fetched("me/mine", tmp_path / "back"))
    assert torch.equal(back.images, dset.images)
    assert back.fingerprint() == dset.fingerprint()
    assert main(["evaluate", "hf:me/mine", "-b", "mini_resnet_barlow", "--protocol", "knn"]) == 0
    assert "knn v" in capsys.readouterr().out
    with pytest.raises(UserError, match="no dataset repository me/other"):
        fetched("me/other", tmp_path / "other")
    hub["me/mine"].pop("set.json")
    with pytest.raises(UserError, match="me/mine holds no set of ddbench"):
        fetched("me/mine", tmp_path / "none")
    assert main(["push", str(tmp_path), "me/mine"]) == 2


def test_a_hub_that_cannot_be_reached_is_not_an_empty_repository(monkeypatch, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # nobody listens
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(UserError, match="the hub cannot be reached for me/mine"):
            fetched("me/mine", tmp_path / "none")


def test_a_file_past_the_limit_is_refused_before_it_is_downloaded(hub, monkeypatch, tmp_path):
    hub["me/mine"] = {"set.json": b"{}", "set.safetensors": bytes(1 << 21)}
    monkeypatch.setitem(ours._LARGEST, "set.safetensors", 1 << 20)
    with pytest.raises(UserError, match=r"set.safetensors of me/mine has 0.0 GB; one of up to 1 MiB is read"):
        fetched("me/mine", tmp_path / "back")
    assert not (tmp_path / "back/set.safetensors").exists()
