import json


def test_sites_are_shown_as_a_table(mcdrop, nets):
    result = mcdrop("audit", "nets:build")
    assert result.exit_code == 0
    assert "dropout" in result.stdout
    assert "0.25" in result.stdout


def test_json_is_for_programs(mcdrop, nets):
    result = mcdrop("audit", "nets:build", "--json")
    report = json.loads(result.stdout)
    assert [(site["kind"], site["p"]) for site in report["sites"]] == [("dropout", 0.25)]


def test_a_model_without_sites_fails_the_audit(mcdrop, nets):
    for flags in ([], ["--json"]):
        result = mcdrop("audit", "nets:certain", *flags)
        assert result.exit_code == 1
        assert "nothing random was found" in result.stdout


def test_a_factory_that_fails_is_one_line(mcdrop, nets):
    result = mcdrop("audit", "nets:failing")
    assert result.exit_code == 1
    assert (
        result.stderr == "mcdrop: calling nets:failing failed: ValueError: the weights are gone\n"
    )
