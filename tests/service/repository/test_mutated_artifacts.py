"""Artifacts that were sound once, put before a server that watches its folder.

Whatever was done to their files: the server lives, what it loads answers as the library does, what
it does not load it gives a reason for, and the other versions and models answer as before.
"""

import contextlib
import hashlib
import itertools
import json
import os
import shutil

import httpx
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

import mcdrop
from mcdrop.evaluation import Labelled, evaluate
from mcdrop.republish import save_again
from tests.service.effort import examples

pytestmark = pytest.mark.fuzz

HASHED = {
    "graph": "graph.json", "weights": "weights.safetensors", "calibration": "calibration.json",
    "evaluation": "evaluation.json",
}  # fmt: skip
FILES = [*HASHED.values(), "model.json"]
DOCUMENTS = [name for name in FILES if name.endswith(".json")]
ROWS = [[0.1, -0.2, 0.3, 0.4], [1.0, 2.0, 3.0, 4.0]]
BODY = {"inputs": ROWS, "samples": 20, "seed": 3, "outputs": ["mean"]}
ODD = (
    None, True, 0, -1, 2, 7, 16, 2**31, 2**63, 10**30, 1e308, 1e-320, 0.5, "", "x", "/etc/passwd",
    "../up", "\n", [], [1], [[]], [2**40, 2**20], {}, {"ref": "x"}, {"dtype": "load"},
)  # fmt: skip
OPS = (
    "os.system", "builtins.eval", "aten.from_file.default", "aten.resize_.default",
    "aten.as_strided.default", "aten.relu.default", "aten.exp.default", "aten.neg.default",
    "aten.sum.default", "aten.mm.default", "aten.view.default", "aten.squeeze.default",
    "aten.dropout.default", "aten.linear.default", "mcdrop.mask", "sym.mul", "",
)  # fmt: skip


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    """A calibrated classifier with all the files that an artifact may have."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 3))
    rows, labels = torch.randn(90, 4), torch.randint(3, (90,))
    mc = mcdrop.MCDropout(net, rows[:2], task="classification")
    mc.calibrate(rows, labels, source="noise")
    path = tmp_path_factory.mktemp("sound") / "1"
    mc.save(path, name="victim", classes=["a", "b", "c"])
    mc = mcdrop.load(path)
    found = evaluate(mc, [Labelled({mc.inputs[0].name: rows}, labels)], source="noise")
    return save_again(mc, path, evaluation=found, overwrite=True)


@pytest.fixture(scope="module")
def models(sound, repository, tmp_path_factory):
    root = tmp_path_factory.mktemp("the-models")
    shutil.copytree(sound, root / "victim" / "1")
    shutil.copytree(repository / "shapes" / "1", root / "shapes" / "1")
    return root


@pytest.fixture(scope="module")
def server(spawn, models, admin):
    settings = {"watch_seconds": 0.05, "warmup_rows": 2, "max_rows": 8, "api_keys": admin.path}
    with spawn(models, **settings) as process:
        address = f"http://127.0.0.1:{process.port}"
        # none is kept: the server hangs up on an idle one while the library is at work here
        limits, headers = httpx.Limits(max_keepalive_connections=0), {"x-api-key": admin.key}
        with httpx.Client(base_url=address, headers=headers, timeout=60, limits=limits) as client:
            yield process, client


@pytest.fixture(scope="module")
def numbers():
    """Numbers for versions, each once."""
    return itertools.count(2)


@pytest.fixture(scope="module")
def known(server):
    """What victim/1 and shapes say while all is well."""
    _, client = server
    return {name: mean(client, name) for name in ("victim", "shapes")}


def mean(client, name, version=None):
    path = f"/v1/models/{name}" + (f"/versions/{version}" if version else "")
    response = client.post(f"{path}/predict", json=BODY)
    assert response.status_code == 200, response.text
    return np.array(response.json()["outputs"]["mean"], float)


def is_file(path):
    """Whether it is one still: a pipe has no end to its reading, a link leads out of the folder."""
    return path.is_file() and not path.is_symlink()


def rehash(folder):
    """Put the hashes right, as whoever means harm would."""
    if not is_file(folder / "model.json"):
        return
    with contextlib.suppress(*SPOILT):
        manifest = json.loads((folder / "model.json").read_text())
        for key, name in HASHED.items():
            if is_file(folder / name):
                content = (folder / name).read_bytes()
                manifest["files"][key] = hashlib.sha256(content).hexdigest()
        (folder / "model.json").write_text(json.dumps(manifest))


def choose(draw, folder, names=FILES):
    return draw(st.sampled_from([folder / name for name in names if is_file(folder / name)]))


def flip(draw, folder):
    path = choose(draw, folder)
    content = bytearray(path.read_bytes())
    for _ in range(draw(st.integers(1, 4))):
        content[draw(st.integers(0, len(content) - 1))] = draw(st.integers(0, 255))
    path.write_bytes(content)


def cut(draw, folder):
    path = choose(draw, folder)
    content = path.read_bytes()
    place = draw(st.integers(0, len(content)))
    path.write_bytes(draw(st.sampled_from([content[:place], content[place:], content * 2])))


def swap(draw, folder):
    one, other = draw(st.permutations(FILES))[:2]
    (folder / one).rename(folder / "aside")
    (folder / other).rename(folder / one)
    (folder / "aside").rename(folder / other)


def exchange(draw, folder):
    """No file, or something else in its place."""
    path = choose(draw, folder)
    path.unlink()
    kind = draw(
        st.sampled_from(["gone", "folder", "pipe", "outside", "circle", "inside", "endless"])
    )
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind != "gone":
        other = draw(st.sampled_from(FILES))
        outside = folder.parent / "victim" / "1" / path.name  # sound, but another version's
        targets = {"outside": outside, "circle": path, "inside": other, "endless": "/dev/zero"}
        path.symlink_to(targets[kind])


def edit(draw, folder):
    """One place of a JSON file taken out, repeated, or exchanged for something odd."""
    path = choose(draw, folder, DOCUMENTS)
    document = json.loads(path.read_text())
    part = document
    while True:
        keys = sorted(part) if isinstance(part, dict) else range(len(part))
        key = draw(st.sampled_from(keys))
        if isinstance(part[key], dict | list) and part[key] and draw(st.integers(0, 4)):
            part = part[key]
            continue
        kind = draw(st.sampled_from(["remove", "exchange", "repeat"]))
        if kind == "remove":
            del part[key]
        elif kind == "repeat" and isinstance(part, list):
            part.insert(0, part[key])
        else:
            part[key] = draw(st.sampled_from(ODD))
        break
    text = json.dumps(document)
    if draw(st.integers(0, 9)) == 0:  # a key twice
        text = text.replace("{", '{"format": 1, ', 1)
    path.write_text(text)


def operate(draw, folder):
    """A node computes something else."""
    path = choose(draw, folder, ["graph.json"])
    graph = json.loads(path.read_text())
    node = draw(st.sampled_from(graph["nodes"]))
    kind = draw(st.sampled_from(["op", "args", "ref"]))
    if kind == "op":
        node["op"] = draw(st.sampled_from(OPS))
    elif kind == "args" and node["args"]:
        place = draw(st.integers(0, len(node["args"]) - 1))
        node["args"][place] = draw(st.sampled_from(ODD))
    else:
        other = draw(st.sampled_from(graph["nodes"]))
        node["args"] = [{"ref": other["name"]}, *node["args"][1:]]
    path.write_text(json.dumps(graph))


def reweigh(draw, folder):
    """A weight of another size, type or value, or gone."""
    path = choose(draw, folder, ["weights.safetensors"])
    weights = load_file(path)
    name = draw(st.sampled_from(sorted(weights)))
    weight = weights.pop(name)
    kind = draw(
        st.sampled_from(["gone", "longer", "shorter", "half", "whole", "nan", "inf", "more"])
    )
    changed = {
        "longer": torch.cat([weight, weight]), "shorter": weight[:-1].clone(),
        "half": weight.half(), "whole": weight.to(torch.int64), "nan": weight * torch.nan,
        "inf": weight / 0, "more": weight + 1,
    }  # fmt: skip
    if kind in changed:
        weights[name] = changed[kind]
    save_file(weights, path)


# one way has taken what the next one would change
SPOILT = (OSError, ValueError, LookupError, TypeError, SafetensorError)
WAYS = (flip, cut, swap, exchange, edit, edit, operate, operate, reweigh)


@examples(80)
@given(data=st.data())
def test_no_artifact_harms_the_server(server, known, numbers, sound, models, data):
    process, client = server
    made, folder = models / ".made", models / "victim" / str(next(numbers))
    shutil.rmtree(made, ignore_errors=True)  # of an example that was given up half way
    shutil.copytree(sound, made)
    for way in data.draw(st.lists(st.sampled_from(WAYS), min_size=1, max_size=2)):
        with contextlib.suppress(*SPOILT):
            way(data.draw, made)
    if data.draw(st.integers(0, 4)):
        rehash(made)
    made.rename(folder)
    try:
        assert client.post("/v1/repository/reload").status_code == 200
        version = client.get(f"/v1/models/victim/versions/{folder.name}").json()
        if version["state"] == "ready":
            answers_as_the_library(client, folder)
        else:
            says_why(version, folder, models)
        everything_else_answers(client, known, ready=version["state"] == "ready")
    finally:
        assert process.process.poll() is None, "".join(process.lines[-40:])
        shutil.rmtree(folder)
        client.post("/v1/repository/reload")


def answers_as_the_library(client, folder):
    path = f"/v1/models/victim/versions/{folder.name}"
    for part in ("", "/calibration", "/calibration/reliability.svg"):
        assert client.get(path + part).status_code in {200, 404}
    response = client.post(f"{path}/predict", json=BODY)
    rows = torch.tensor(ROWS)
    if response.status_code != 200:
        assert response.status_code == 422, response.text
        with pytest.raises(mcdrop.InputError):
            mcdrop.load(folder).predict(rows, samples=20, seed=3)
        return
    found = np.array(response.json()["outputs"]["mean"], float)
    by_loop, by_plan = (
        mcdrop.load(folder, engine=engine).predict(rows, samples=20, seed=3).mean.numpy()
        for engine in ("loop", "auto")
    )
    if np.allclose(by_loop, by_plan, rtol=1e-4, atol=1e-6, equal_nan=True):  # and not mere rounding
        by_loop[np.isinf(by_loop)] = np.nan  # which JSON has as null, too
        np.testing.assert_allclose(found, by_loop, rtol=1e-3, atol=1e-5)


def says_why(version, folder, models):
    assert version["state"] == "unavailable"
    assert len(version["reason"]) > 10
    assert str(models) not in version["reason"]
    assert "log says more" not in version["reason"], "the library raised no ArtifactError"
    with pytest.raises(mcdrop.ArtifactError):
        mcdrop.load(folder)


def everything_else_answers(client, known, *, ready):
    for path in ("/v1/models", "/v1/models/victim", "/v1/repository", "/health/ready"):
        assert client.get(path).status_code == 200
    np.testing.assert_allclose(mean(client, "shapes"), known["shapes"], rtol=1e-4)
    np.testing.assert_allclose(mean(client, "victim", 1), known["victim"], rtol=1e-4)
    if not ready:
        np.testing.assert_allclose(mean(client, "victim"), known["victim"], rtol=1e-4)
