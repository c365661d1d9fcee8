"""Artifacts: an exact round trip, and nothing but ArtifactError from a bad folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import mcdrop
from mcdrop.program.codec import decode, encode
from tests import zoo

FILES = ("graph.json", "weights.safetensors", "model.json")


@pytest.mark.parametrize("name", zoo.NAMES)
def test_round_trip_is_exact(name: str, tmp_path: Path) -> None:
    _, inputs = zoo.build(name)
    # two plans, measured apart, may choose engines that round in another way
    mc = mcdrop.MCDropout(zoo.program(name), task="regression", engine="loop")
    path = mc.save(tmp_path / name / "1", name=name, samples=5, seed=9)
    again = mcdrop.load(path, engine="loop")
    assert sorted(p.name for p in path.iterdir()) == sorted(FILES)
    assert len({file.stat().st_mode for file in path.iterdir()}) == 1
    assert again.program.graph == mc.program.graph
    assert again.program.sites == mc.program.sites
    assert again.program.inputs == mc.program.inputs
    assert torch.equal(
        again.sample(inputs, samples=4, seed=2), mc.sample(inputs, samples=4, seed=2)
    )
    assert torch.equal(again.deterministic(inputs), mc.deterministic(inputs))
    assert again.manifest is not None
    assert again.predict(inputs).samples.tolist() == [5] * 3


def test_the_manifest_tells_rates_and_places(tmp_path: Path) -> None:
    module, x = zoo.build("bert")
    mc = mcdrop.MCDropout(module, x, task="classification")
    manifest = mcdrop.load(mc.save(tmp_path / "1", name="bert")).manifest
    assert manifest is not None
    assert [(s.name, s.p, s.place) for s in manifest.sites][:2] == [
        ("bert.embeddings.dropout", 0.1, "input"),
        ("bert.encoder.layer.0.attention.self.attention", 0.1, "hidden"),
    ]


def test_an_artifact_of_before_places_is_loaded(tmp_path: Path) -> None:
    module, x = zoo.build("dropout")
    path = mcdrop.MCDropout(module, x, task="classification").save(tmp_path / "1", name="net")
    document = json.loads((path / "model.json").read_text())
    assert document["sites"][0].pop("place") == "hidden"
    (path / "model.json").write_text(json.dumps(document))
    manifest = mcdrop.load(path).manifest
    assert manifest is not None
    assert manifest.sites[0].place is None


@pytest.mark.parametrize("name", zoo.NAMES)
def test_the_graph_survives_json(name: str) -> None:
    program = zoo.program(name)
    assert decode(encode(program.graph, program.sites)) == (program.graph, program.sites)


@pytest.mark.parametrize("change", [b"other", b""])
def test_what_was_loaded_does_not_follow_its_file(change: bytes, tmp_path: Path) -> None:
    module, x = zoo.build("dropout")
    path = mcdrop.MCDropout(module, x, task="classification").save(tmp_path / "m", name="net")
    loaded = mcdrop.load(path, engine="loop")
    before = loaded.sample(x, samples=2)
    weights = path / "weights.safetensors"
    size = weights.stat().st_size
    with weights.open("r+b") as file:  # in place; a mapped file that is cut short kills the process
        file.write(change * (size // 5))
        file.truncate(size if change else 0)
    assert torch.equal(loaded.sample(x, samples=2), before)


def test_manifest_says_what_the_model_is(tmp_path: Path) -> None:
    module, x = zoo.build("dropout")
    mc = mcdrop.MCDropout(module, x, task="classification")
    path = mc.save(
        tmp_path / "m",
        name="net",
        version=3,
        description="a net",
        classes=["a", "b", "c"],
        metrics={"test_accuracy": 0.5},
        provenance={"data": "none"},
    )
    manifest = mcdrop.load(path).manifest
    assert manifest is not None
    assert (manifest.name, manifest.version, manifest.classes) == ("net", 3, ("a", "b", "c"))
    assert [(s.name, s.kind, s.p, s.shape) for s in manifest.sites] == [
        ("drop", "dropout", 0.4, (1, 16))
    ]
    assert manifest.metrics == {"test_accuracy": 0.5}
    assert manifest.provenance["data"] == "none"
    assert manifest.provenance["torch"] == torch.__version__
    assert manifest.inputs[0].shape == (None, 6)
    assert manifest.outputs[0].shape == (None, 3)
    with pytest.raises(mcdrop.InputError, match="3 classes; got 2"):
        mc.save(tmp_path / "n", name="net", classes=["a", "b"])
    with pytest.raises(mcdrop.InputError, match="manifest"):
        mc.save(tmp_path / "n", name="../up")
    assert not (tmp_path / "n").exists()


def test_saving_never_overwrites_unless_told(tmp_path: Path) -> None:
    module, x = zoo.build("dropout")
    mc = mcdrop.MCDropout(module, x, task="regression")
    path = mc.save(tmp_path / "m", name="one")
    with pytest.raises(mcdrop.ArtifactError, match="exists already"):
        mc.save(path, name="two")
    assert mcdrop.load(path).manifest.name == "one"
    mc.save(path, name="two", overwrite=True)
    assert mcdrop.load(path).manifest.name == "two"
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


@pytest.mark.parametrize("kind", ["repository", "file", "stranger"])
def test_only_an_artifact_is_replaced(kind: str, tmp_path: Path) -> None:
    module, x = zoo.build("dropout")
    mc = mcdrop.MCDropout(module, x, task="regression")
    target = tmp_path / "models"
    if kind == "file":
        target.write_text("mine")
    else:
        mc.save(target / "net" / "1" if kind == "repository" else target, name="net")
    if kind == "stranger":
        (target / "notes.txt").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(mcdrop.ArtifactError, match="not an artifact, so it is not replaced"):
        mc.save(target, name="net", overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_broken_model_is_not_saved(tmp_path: Path) -> None:
    module, x = zoo.build("dropout")
    mc = mcdrop.MCDropout(module, x, task="regression")
    mc.program.weights["w:second.bias"].fill_(torch.nan)
    with pytest.raises(mcdrop.ArtifactError, match="NaN"):
        mc.save(tmp_path / "m", name="m")


def test_weight_norm_of_any_size_stays_in_bounds(tmp_path: Path) -> None:
    """ATen's kernel reads and writes past the end where the size has fewer elements than rows."""
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4096)), nn.Dropout(0.5))
    x = torch.ones(2, 4)
    mc = mcdrop.MCDropout(net, x, task="regression")
    torch.testing.assert_close(mc.deterministic(x), net.eval()(x))
    folder = mc.save(tmp_path / "m", name="m")
    name = next(w for w in load_file(folder / "weights.safetensors") if "original0" in w)
    _weights(lambda w: w.update({name: torch.ones(1)}))(folder)
    out = mcdrop.load(folder).deterministic(x)
    assert out.isfinite().all()
    _weights(lambda w: w.update({name: torch.ones(7, 1)}))(folder)
    with pytest.raises(mcdrop.ArtifactError, match="does not run"):
        mcdrop.load(folder)


def test_an_interrupted_save_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, x = zoo.build("dropout")
    mc = mcdrop.MCDropout(module, x, task="regression")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mcdrop.program.artifact.save_file", full)
    with pytest.raises(mcdrop.ArtifactError, match="No space left"):
        mc.save(tmp_path / "m", name="one")
    assert list(tmp_path.iterdir()) == []


def test_an_operation_off_the_list_is_refused_on_saving(tmp_path: Path) -> None:
    class Strided(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            h = torch.as_strided(x, (x.shape[0], 2), (4, 1))
            return nn.functional.dropout(h, 0.5, self.training)

    mc = mcdrop.MCDropout(Strided(), torch.ones(2, 4), task="regression")
    with pytest.raises(mcdrop.ArtifactError, match="as_strided"):
        mc.save(tmp_path / "m", name="m")


# --- hostile folders -------------------------------------------------------------------------


class Bomb:
    """Unpickling it would create a file."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.touch, (self.target,))


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    module, x = zoo.build("lstm")
    mc = mcdrop.MCDropout(module, x, task="regression")
    return mc.save(tmp_path_factory.mktemp("sound") / "1", name="net")


def _rehash(folder: Path) -> None:
    manifest = json.loads((folder / "model.json").read_text())
    for key, name in (("graph", "graph.json"), ("weights", "weights.safetensors")):
        manifest["files"][key] = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    (folder / "model.json").write_text(json.dumps(manifest))


def _edit_graph(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """A hostile author: the graph is changed and the hashes are right."""

    def attack(folder: Path) -> None:
        graph = json.loads((folder / "graph.json").read_text())
        change(graph)
        (folder / "graph.json").write_text(json.dumps(graph))
        _rehash(folder)

    return attack


def _edit_manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        manifest = json.loads((folder / "model.json").read_text())
        change(manifest)
        (folder / "model.json").write_text(json.dumps(manifest))

    return attack


def _replace(name: str, content: bytes, *, rehash: bool = True) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / name).write_bytes(content)
        if rehash:
            _rehash(folder)

    return attack


def _node(graph: dict[str, Any], op: str) -> dict[str, Any]:
    return next(node for node in graph["nodes"] if node["op"].startswith(op))


def _op(name: str) -> Callable[[Path], None]:
    return _edit_graph(lambda g: _node(g, "aten.linear").update(op=name))


def _insert(op: str, *args: Any) -> Callable[[Path], None]:
    """Put a node in front whose value the first linear layer then reads."""

    def change(graph: dict[str, Any]) -> None:
        node = {"name": "evil", "op": op, "args": list(args), "kwargs": {}, "path": ""}
        graph["nodes"].insert(0, node)
        _node(graph, "aten.linear")["args"][0] = {"ref": "evil"}

    return _edit_graph(change)


def _truncate(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: len(data) // 2])
        if name != "model.json":
            _rehash(folder)

    return attack


def _link_outside(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        target = folder.parent / "outside"
        shutil.move(folder / name, target)
        (folder / name).symlink_to(target)

    return attack


def _weights(change: Callable[[dict[str, torch.Tensor]], None]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        weights = load_file(folder / "weights.safetensors")
        change(weights)
        save_file(weights, folder / "weights.safetensors")
        _rehash(folder)

    return attack


def _huge_header(folder: Path) -> None:
    header = json.dumps(
        {"w:out.bias": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}
    ).encode()
    data = len(header).to_bytes(8, "little") + header + b"\0" * 64
    (folder / "weights.safetensors").write_bytes(data)
    _rehash(folder)


def _pickled(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        bomb = pickle.dumps(Bomb(folder.parent / "exploded"))
        (folder / name).write_bytes(bomb)
        if name != "model.json":
            _rehash(folder)

    return attack


def _torch_save(folder: Path) -> None:
    torch.save({"w": Bomb(folder.parent / "exploded")}, folder / "weights.safetensors")
    _rehash(folder)


def _grow(graph: dict[str, Any]) -> None:
    """Size arithmetic that doubles the digits of a number at each step."""
    name = "grow0"
    nodes = [
        {"name": name, "op": "sym.add", "args": [10**9, 10**9], "kwargs": {}, "path": ""},
    ]
    for i in range(1, 64):
        args = [{"ref": name}, {"ref": name}]
        name = f"grow{i}"
        nodes.append({"name": name, "op": "sym.mul", "args": args, "kwargs": {}, "path": ""})
    graph["nodes"][:0] = nodes
    _node(graph, "aten.linear")["kwargs"] = {"evil": {"ref": name}}


def _empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


def _instead_of_graph(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / "graph.json").unlink()
        make(folder / "graph.json")

    return attack


def _nan_metric(folder: Path) -> None:
    text = (folder / "model.json").read_text()
    assert '"metrics": {}' in text
    (folder / "model.json").write_text(text.replace('"metrics": {}', '"metrics": {"a": NaN}'))


ATTACKS: dict[str, Callable[[Path], None]] = {
    # missing, truncated, altered
    "no_graph": lambda f: (f / "graph.json").unlink(),
    "no_weights": lambda f: (f / "weights.safetensors").unlink(),
    "no_manifest": lambda f: (f / "model.json").unlink(),
    "empty_folder": _empty,
    "truncated_graph": _truncate("graph.json"),
    "truncated_weights": _truncate("weights.safetensors"),
    "truncated_manifest": _truncate("model.json"),
    "altered_graph": _replace("graph.json", b"{}", rehash=False),
    "altered_weights": _replace("weights.safetensors", b"\0" * 16, rehash=False),
    "wrong_hash": _edit_manifest(lambda m: m["files"].update(graph="0" * 64)),
    "no_hash": _edit_manifest(lambda m: m.pop("files")),
    "empty_weights_file": _replace("weights.safetensors", b""),
    # code in disguise
    "pickle_as_weights": _pickled("weights.safetensors"),
    "pickle_as_graph": _pickled("graph.json"),
    "pickle_as_manifest": _pickled("model.json"),
    "torch_save_as_weights": _torch_save,
    "op_eval": _op("builtins.eval"),
    "op_system": _op("os.system"),
    "op_unknown": _op("aten.no_such_operation.default"),
    "op_unknown_overload": _op("aten.linear.evil"),
    "op_from_file": _insert("aten.from_file.default", "/etc/passwd", False, 100),
    "op_as_strided": _op("aten.as_strided.default"),
    "op_in_place": _op("aten.add_.Tensor"),
    "op_out": _op("aten.add.out"),
    "op_resize": _op("aten.resize.default"),
    "op_other_namespace": _op("prim.device.default"),
    "op_lowered_kernel": _op("mcdrop.scale"),
    "op_dunder": _op("aten.__class__.default"),
    "op_not_text": _edit_graph(lambda g: g["nodes"][0].update(op=["aten"])),
    # paths
    "graph_outside": _link_outside("graph.json"),
    "weights_outside": _link_outside("weights.safetensors"),
    "manifest_outside": _link_outside("model.json"),
    "name_traversal": _edit_manifest(lambda m: m.update(name="../../etc/cron.d/x")),
    "graph_is_a_folder": _instead_of_graph(Path.mkdir),
    "dangling_link": _instead_of_graph(lambda p: p.symlink_to(p.parent / "gone")),
    "link_to_itself": _instead_of_graph(lambda p: p.symlink_to(p)),
    "fifo": _instead_of_graph(os.mkfifo),
    # sizes
    "huge_header": _huge_header,
    "huge_tensor": _insert("aten.ones.default", [2**40, 2**10]),
    "huge_input": _edit_manifest(lambda m: m["inputs"][0].update(shape=[None, 2**30, 4])),
    "huge_number": _insert("aten.ones.default", [10**30]),
    "growing_numbers": _edit_graph(_grow),
    "too_many_nodes": _edit_graph(lambda g: g["nodes"].extend([g["nodes"][0]] * 200_001)),
    "long_integer": _replace("graph.json", b'{"format": ' + b"9" * 10_000 + b"}"),
    "deep_json": _replace("graph.json", b"[" * 100_000),
    "deep_manifest": _replace("model.json", b'{"a":' * 100_000, rehash=False),
    "deep_argument": _edit_graph(lambda g: g["nodes"][0].update(args=[[[[[[[[[[[[1]]]]]]]]]]]])),
    # JSON
    "bad_json": _replace("graph.json", b"{'format': 1}"),
    "not_utf8": _replace("graph.json", b"\xff\xfe{}"),
    "manifest_is_a_list": _replace("model.json", b"[]", rehash=False),
    "graph_is_a_number": _replace("graph.json", b"7"),
    "repeated_key": _replace("graph.json", b'{"format": 1, "format": 1}'),
    "nan_in_graph": _replace("graph.json", b'{"format": NaN}'),
    "nan_metric": lambda f: (
        (f / "model.json").write_text(
            (f / "model.json").read_text().replace('"metrics": {}', '"metrics": {"a": NaN}')
        )
        and None
    ),
    "unknown_manifest_field": _edit_manifest(lambda m: m.update(hook="os.system")),
    "future_format": _edit_manifest(lambda m: m.update(format=99)),
    "future_graph": _edit_graph(lambda g: g.update(format=99)),
    "unknown_task": _edit_manifest(lambda m: m["task"].update(kind="magic")),
    # weights
    "nan_weights": _weights(lambda w: w["w:out.bias"].fill_(float("nan"))),
    "missing_weight": _weights(lambda w: w.__delitem__("w:out.bias")),
    "extra_weight": _weights(lambda w: w.update(extra=torch.ones(1))),
    "whole_numbers": _weights(lambda w: w.update({"w:out.weight": w["w:out.weight"].long()})),
    "wrong_shape": _weights(lambda w: w.update({"w:out.bias": torch.ones(77)})),
    # graphs that make no sense
    "cycle": _edit_graph(
        lambda g: _node(g, "aten.linear")["args"].__setitem__(0, {"ref": "linear"})
    ),
    "undefined_value": _edit_graph(
        lambda g: _node(g, "aten.linear")["args"].__setitem__(0, {"ref": "nobody"})
    ),
    "defined_twice": _edit_graph(lambda g: g["nodes"].append(dict(g["nodes"][0]))),
    "no_outputs": _edit_graph(lambda g: g.update(outputs=[])),
    "output_undefined": _edit_graph(lambda g: g.update(outputs=[["output", "nobody"]])),
    "too_many_arguments": _edit_graph(lambda g: _node(g, "aten.linear")["args"].extend([1, 2, 3])),
    "wrong_argument": _edit_graph(lambda g: _node(g, "aten.linear")["args"].__setitem__(1, "text")),
    "unknown_dtype": _insert("aten.ones.default", [2], {"dtype": "evil"}),
    "torch_attribute": _insert("aten.ones.default", [2], {"dtype": "load"}),
    "unknown_constant": _insert("aten.ones.default", [2], {"pickle": "x"}),
    "site_without_node": _edit_graph(lambda g: g["sites"][0].update(node="nobody")),
    "site_of_another_op": _edit_graph(lambda g: g["sites"][0].update(kind="dropout")),
    "site_law_of_no_noise": _edit_graph(lambda g: g["sites"][0]["law"].update(p=0.0, scale=1.0)),
    "site_threshold_no_text": _edit_graph(lambda g: g["sites"][0].update(threshold={})),
    "site_of_another_rate": _edit_graph(lambda g: g["sites"][0].update(p=0.1)),
    "random_node_without_site": _insert("aten.rand.default", [2, 5, 4]),
    "op_without_bounds_check": _insert("aten.native_batch_norm.default", {"ref": "x"}),
    "site_rate": _edit_graph(lambda g: g["sites"][0]["law"].update(p=7)),
    "site_scale": _edit_graph(lambda g: g["sites"][0]["law"].update(scale="x")),
    "site_layer": _edit_graph(lambda g: g["sites"][0].update(layer=10**6)),
    "site_axis": _edit_graph(lambda g: g["sites"][0]["layout"].update(dim=40)),
    "sites_dropped": _edit_graph(lambda g: g.update(sites=[])),
    "sites_twice": _edit_graph(lambda g: g["sites"].append(dict(g["sites"][0]))),
    "manifest_of_other_inputs": _edit_manifest(lambda m: m["inputs"][0].update(name="other")),
    "manifest_of_other_sites": _edit_manifest(lambda m: m.update(sites=[])),
    "manifest_of_other_outputs": _edit_manifest(lambda m: m["outputs"][0].update(shape=[None, 9])),
    "input_of_another_type": _edit_manifest(lambda m: m["inputs"][0].update(dtype="int64")),
    "output_of_another_type": _edit_manifest(lambda m: m["outputs"][0].update(dtype="int64")),
    "class_axis_unknown": _edit_manifest(
        lambda m: m.update(task={"kind": "classification", "dim": 7})
    ),
    "classes_of_another_number": _edit_manifest(
        lambda m: m.update(task={"kind": "classification"}, classes=["a"] * 9)
    ),
    "classes_of_a_regression": _edit_manifest(lambda m: m.update(classes=["a", "b"])),
    "range_of_no_axis": _edit_manifest(lambda m: m["inputs"][0].update(ranges={"1": [1, 9]})),
    "half_precision_of_no_kind": _weights(
        lambda w: w.update({"w:out.bias": w["w:out.bias"].to(torch.float8_e4m3fn)})
    ),
    "entry_unknown": _edit_manifest(lambda m: m["task"].update(entry="nothing")),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_bad_folder_is_an_artifact_error(attack: str, sound: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(sound, folder)
    ATTACKS[attack](folder)
    with pytest.raises(mcdrop.ArtifactError) as caught:
        mcdrop.load(folder)
    assert len(str(caught.value)) > 20
    assert not (tmp_path / "exploded").exists(), "code in the folder was executed"


def test_the_sound_folder_loads(sound: Path) -> None:
    assert mcdrop.load(sound).predict(torch.randn(2, 5, 4), samples=4).samples.tolist() == [4, 4]


@pytest.mark.parametrize("path", ["nowhere", "file"])
def test_no_folder_is_an_artifact_error(path: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(mcdrop.ArtifactError, match="not a folder"):
        mcdrop.load(tmp_path / path)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_bytes_flipped_anywhere_never_escape(
    sound: Path, tmp_path: Path, data: st.DataObject
) -> None:
    """Any byte of any file changed, with the hashes put right: loads, or is an ArtifactError."""
    folder = tmp_path / "fuzzed"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(sound, folder)
    name = data.draw(st.sampled_from(FILES))
    content = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    (folder / name).write_bytes(content)
    if name != "model.json":
        _rehash(folder)
    with contextlib.suppress(mcdrop.ArtifactError):
        mcdrop.load(folder)
