import pytest
import torch
from torch import nn

from mcdrop.cli.factory import build
from mcdrop.errors import InputError, McdropError


@pytest.mark.parametrize("target", ["nets:build", "nets:nested.build"])
def test_a_tensor_is_one_example_input(nets, target):
    built = build(target)
    assert isinstance(built.model, nn.Sequential)
    assert isinstance(built.example_inputs, tuple)
    assert [x.shape for x in built.example_inputs] == [torch.Size([2, 4])]


def test_tuples_and_dicts_of_tensors_pass(nets):
    assert len(build("nets:pair").example_inputs) == 2
    assert set(build("nets:pair_by_name").example_inputs) == {"left", "right"}


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nets", "expected MODULE:FACTORY, such as nets:build; got 'nets'"),
        (":build", "expected MODULE:FACTORY"),
        ("nets.py:build", "not a file: try nets:build"),
        ("./sub/nets.py:build", "not a file: try sub.nets:build"),
        ("nowhere:build", "there is no module 'nowhere'"),
        ("nets:nowhere", "the module 'nets' has no 'nowhere'"),
        ("nets:REPORT", "nets:REPORT is a str, not callable"),
        ("nets:alone", r"returned a Linear: a factory returns \(module, example_inputs\)"),
        ("nets:not_a_module", "returned a str as its module"),
        ("nets:not_tensors", r"returned a list of 2 \(an int, an int\) as its example inputs"),
    ],
)
def test_what_is_not_of_the_contract_is_refused(nets, target, message):
    with pytest.raises(InputError, match=message):
        build(target)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nets:failing", "calling nets:failing failed: ValueError: the weights are gone"),
        ("nets:leaving", "calling nets:leaving failed: SystemExit: 3"),
        ("broken:build", "importing broken failed: SyntaxError"),
        ("needy:build", "importing needy failed: ModuleNotFoundError: No module named 'absent'"),
    ],
)
def test_what_the_users_code_raises_is_told_in_one_line(nets, target, message):
    (nets / "broken.py").write_text("def build(:\n")
    (nets / "needy.py").write_text("import absent\n")
    with pytest.raises(McdropError, match=message) as caught:
        build(target)
    assert "\n" not in str(caught.value)
