import pytest
import torch

from mcdrop.loading import load


def test_an_artifact_is_written_as_asked(mcdrop, nets):
    (nets / "labels.txt").write_text("cat\ndog\n\nowl\n")
    result = mcdrop(
        "export", "nets:build", "models/toy/3", "--task", "classification",
        "--classes", "@labels.txt", "--description", "four numbers", "--samples", 32, "--seed", 7,
        "--masks", "independent", "--sampling", "iid",
        "--provenance", "data=made=up", "--provenance", "by=me",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "mcdrop info models/toy/3" in result.stdout
    mc = load("models/toy/3")
    manifest = mc.manifest
    assert (manifest.name, manifest.version) == ("toy", 3)
    assert manifest.classes == ("cat", "dog", "owl")
    assert manifest.description == "four numbers"
    defaults = manifest.defaults
    assert (defaults.samples, defaults.seed, defaults.masks) == (32, 7, "independent")
    assert defaults.sampling == "iid"
    assert manifest.provenance["data"] == "made=up"
    assert manifest.provenance["by"] == "me"
    assert manifest.provenance["factory"] == "nets:build"
    assert mc.predict(torch.zeros(3, 4)).mean.shape == (3, 3)


@pytest.mark.parametrize(
    ("output", "options", "expected"),
    [
        ("plain", [], ("plain", 1)),
        ("models/toy/12", ["--name", "other", "--version", 2], ("other", 2)),
    ],
)
def test_name_and_version_come_from_the_folder_or_are_given(
    mcdrop, nets, output, options, expected
):
    result = mcdrop("export", "nets:build", output, "--task", "classification", *options)
    assert result.exit_code == 0, result.stderr
    manifest = load(output).manifest
    assert (manifest.name, manifest.version) == expected


def test_a_task_in_json_and_a_free_axis(mcdrop, nets):
    result = mcdrop(
        "export", "nets:pair_by_name", "models/pair/1", "--dynamic-axis", "left:1=1..9",
        "--task", '{"kind": "multilabel", "entry": "logits"}',
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    mc = load("models/pair/1")
    assert mc.manifest.task.entry == "logits"
    left = next(spec for spec in mc.manifest.inputs if spec.name == "left")
    assert left.shape == (None, None, 3)
    inputs = {"left": torch.ones(1, 2, 3), "right": torch.ones(1, 3)}
    assert mc.predict(inputs).mean.shape == (1, 3)


def test_an_artifact_is_replaced_only_when_forced(mcdrop, nets):
    export = ("export", "nets:build", "models/toy/1", "--task", "classification")
    assert mcdrop(*export).exit_code == 0
    before = load("models/toy/1").manifest
    refused = mcdrop(*export)
    assert refused.exit_code == 1
    assert (
        "models/toy/1 exists: choose another folder, or replace it with --force" in refused.stderr
    )
    assert load("models/toy/1").manifest == before
    assert mcdrop(*export, "--force", "--seed", 5).exit_code == 0
    assert load("models/toy/1").manifest.defaults.seed == 5


@pytest.mark.parametrize(
    "options",
    [
        ["--task", "clasification"],
        ["--task", '{"kind": "classification", "axis": 1}'],
        ["--task", "{"],
        ["--task", "classification", "--dynamic-axis", "x=1"],
        ["--task", "classification", "--provenance", "data"],
        ["--task", "classification", "--classes", "one"],
        ["--task", "classification", "--masks", "some"],
        [],
    ],
)
def test_options_that_make_no_sense_are_usage_errors(mcdrop, nets, options):
    result = mcdrop("export", "nets:build", "models/toy/1", *options)
    assert result.exit_code == 2
    assert not (nets / "models").exists()


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("nets:certain", [], "nothing random was found"),
        ("nets:build", ["--classes", "cat,dog"], "3 classes; got 2 names"),
        ("nets:build", ["--classes", "@absent.txt"], "absent.txt: No such file"),
        ("nets:build", ["--site", "tail.*"], "tail"),
        ("nets:build", ["--name", "a/b"], "name"),
    ],
)
def test_what_cannot_be_exported_is_told_and_leaves_nothing(mcdrop, nets, target, options, message):
    result = mcdrop("export", target, "models/toy/1", "--task", "classification", *options)
    assert result.exit_code == 1
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (nets / "models" / "toy" / "1").exists()
