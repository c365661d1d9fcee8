import json

from mcdrop.program.manifest import Manifest


def test_the_page_says_what_the_artifact_is(mcdrop, artifacts):
    result = mcdrop("info", artifacts / "classes" / "1")
    assert result.exit_code == 0
    for text in (
        "classes  version 1",
        "four numbers [in no unit]",
        "cat, dog, owl, barn",
        "16 samples, seed 0, shared masks",
        "float32",
        "[*, 4]",
        "[*, 3]",
        "dropout",
        "0.25",
        "accuracy",
        "0.875",
        "made up",
    ):
        assert text in result.stdout


def test_json_is_the_manifest(mcdrop, artifacts):
    result = mcdrop("info", artifacts / "pair" / "1", "--json")
    manifest = Manifest.model_validate(json.loads(result.stdout))
    assert [spec.name for spec in manifest.inputs] == ["ids", "scale"]


def test_a_damaged_artifact_is_told(mcdrop, artifacts, tmp_path):
    for name in ("model.json", "graph.json", "weights.safetensors"):
        content = (artifacts / "classes" / "1" / name).read_bytes()
        (tmp_path / name).write_bytes(content)
    (tmp_path / "weights.safetensors").write_bytes(b"\0" * 64)
    result = mcdrop("info", tmp_path)
    assert result.exit_code == 1
    assert len(result.stderr.splitlines()) == 1
