import subprocess
import sys
from pathlib import Path

import pytest

from mcdrop.version import __version__

ROOT = Path(__file__).parents[2]
COMMANDS = ("audit", "export", "info", "predict", "serve", "key", "demo", "compare")

# The package root is left out: whether it is lazy is its own business.
LIGHT = """
import sys
from mcdrop.cli import main
try:
    main()
except SystemExit as end:
    heavy = {"torch", "numpy", "sklearn", "service"} & set(sys.modules)
    sys.exit(f"imported {heavy}" if heavy else end.code)
"""


def run(*args, **kwargs):
    return subprocess.run(args, capture_output=True, text=True, check=False, timeout=120, **kwargs)


def test_version(mcdrop):
    result = mcdrop("--version")
    assert (result.exit_code, result.stdout) == (0, f"mcdrop {__version__}\n")


def test_the_module_is_the_command() -> None:
    done = run(sys.executable, "-m", "mcdrop", "--version")
    assert (done.returncode, done.stdout) == (0, f"mcdrop {__version__}\n")


def test_help_lists_every_command_and_shows_examples(mcdrop):
    result = mcdrop("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert f" {command} " in result.stdout
    assert "mcdrop demo --request digits | curl" in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_has_examples(mcdrop, command):
    result = mcdrop(command, "--help")
    assert result.exit_code == 0
    assert "Examples:" in result.stdout
    assert f"mcdrop {command}" in result.stdout


@pytest.mark.parametrize("args", [["--help"], ["--version"], ["predict", "--help"]])
def test_help_imports_nothing_heavy(args):
    result = run(sys.executable, "-c", LIGHT, *args)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["nonsense"], "No such command 'nonsense' (see mcdrop --help)"),
        (["--nonsense"], "No such option: --nonsense (see mcdrop --help)"),
        (["info"], "Missing argument 'ARTIFACT' (see mcdrop info --help)"),
        (["info", "a", "--jsn"], "(see mcdrop info --help)"),
        (["predict", "a", "b", "c", "--samples", "0"], "(see mcdrop predict --help)"),
        (["predict", "a", "b", "c", "--interval", "1"], "--interval: lies strictly between 0 and"),
        (["demo", "digist"], "'names': 'digist' is not one of 'digits', 'diabetes' (see mcdrop"),
        (["export", "a:b", "c", "--task", "guess"], "got 'guess' (see mcdrop export --help)"),
    ],
)
def test_usage_errors_are_one_line_and_exit_code_2(args, said):
    result = run(sys.executable, "-c", "from mcdrop.cli import main; main()", *args)
    assert result.returncode == 2
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("mcdrop: ")
    assert said in line


def test_without_a_command_it_shows_its_help():
    result = run(sys.executable, "-c", "from mcdrop.cli import main; main()")
    assert result.returncode == 2
    assert "Commands" in result.stdout + result.stderr


def test_an_error_is_one_line_and_exit_code_1(mcdrop, tmp_path):
    result = mcdrop("info", tmp_path / "nowhere")
    assert result.exit_code == 1
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    assert line.startswith("mcdrop: ")
    assert "nowhere" in line


def test_debug_shows_the_traceback(tmp_path):
    args = [sys.executable, "-c", "from mcdrop.cli import main; main()"]
    plain = run(*args, "info", str(tmp_path))
    debug = run(*args, "--debug", "info", str(tmp_path))
    assert (plain.returncode, debug.returncode) == (1, 1)
    assert "Traceback" not in plain.stderr
    assert len(plain.stderr.splitlines()) == 1
    assert "Traceback" in debug.stderr
    assert "ArtifactError" in debug.stderr


def test_a_reader_that_leaves_is_no_error(artifacts):
    command = (
        f"{sys.executable} -c 'from mcdrop.cli import main; main()' info {artifacts}/classes/1"
    )
    result = run("bash", "-c", f"{command} | true")
    assert result.stderr == ""
