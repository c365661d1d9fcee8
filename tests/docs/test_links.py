import subprocess
import sys
from pathlib import Path

import pytest

from docs import links

ROOT = Path(__file__).parents[2]


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "docs" / "images").mkdir(parents=True)
    (tmp_path / "docs" / "images" / "a b.png").write_bytes(b"")
    (tmp_path / "docs" / "guide.md").write_text("# First steps\n\n## It's *easy*, `really`!\n")
    return tmp_path


def problems(repository: Path, text: str) -> list[tuple[int, str, str]]:
    (repository / "README.md").write_text(text)
    return [(link.line, link.target, link.reason) for link in links.broken(repository)]


@pytest.mark.parametrize(
    "text",
    [
        "[a](docs/guide.md) ![b](docs/images/a%20b.png) [c](<docs/images/a b.png>)",
        "[a](docs/guide.md#first-steps) [b](docs/guide.md#its-easy-really) [c](/docs/)",
        '[a](docs/guide.md "a title") <img alt="x" src="docs/images/a%20b.png">',
        "# Here\n[a](#here)\n[b]\n\n[b]: docs/guide.md",
        "[a](https://example.org/nowhere) [b](mailto:a@b.c) [c](//example.org)",
        "`[a](nowhere.md)` and\n```md\n[b](nowhere.md)\n```\n~~~\n```\n[c](nowhere.md)\n~~~",
        '<a id="mark"></a>\n[a](#mark)',
        "# Twice\n# Twice\n[a](#twice-1)",
        "[![badge](docs/images/a%20b.png)](docs/guide.md)",
    ],
)
def test_links_that_lead_somewhere_pass(repository, text):
    assert problems(repository, text) == []


@pytest.mark.parametrize(
    ("text", "target", "reason"),
    [
        ("[a](nowhere.md)", "nowhere.md", "no such file"),
        ("![a](docs/images/no.png)", "docs/images/no.png", "no such file"),
        ('<img src="no.png">', "no.png", "no such file"),
        ("[b]\n\n[b]: no.md", "no.md", "no such file"),
        ("[a](docs/guide.md#last-steps)", "docs/guide.md#last-steps", "no such heading"),
        ("[a](#nowhere)", "#nowhere", "no such heading"),
        ("[a](../secret.md)", "../secret.md", "leads out of the repository"),
        ("[![b](no.png)](docs/guide.md)", "no.png", "no such file"),
        ("```\n# Only code\n```\n[a](#only-code)", "#only-code", "no such heading"),
    ],
)
def test_links_that_lead_nowhere_are_found(repository, text, target, reason):
    found = problems(repository, text)
    assert [(link, why) for _, link, why in found] == [(target, reason)]


def test_links_are_told_by_file_and_line(repository):
    (repository / "docs" / "guide.md").write_text("fine\n\n[a](b.md)\n")
    (found,) = links.broken(repository)
    assert str(found) == "docs/guide.md:3: b.md: no such file"


def test_hidden_and_built_folders_are_left_out(repository):
    for folder in (".venv", "models", "build"):
        (repository / folder).mkdir()
        (repository / folder / "x.md").write_text("[a](nowhere.md)")
    assert links.broken(repository) == []


def test_the_exit_code_tells(repository, capsys):
    assert links.main(repository) == 0
    (repository / "README.md").write_text("[a](nowhere.md)")
    assert links.main(repository) == 1
    assert "README.md:1: nowhere.md: no such file" in capsys.readouterr().out


def test_the_repositorys_own_documents_have_no_broken_link():
    run = subprocess.run(
        [sys.executable, "-m", "docs.links"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout
