import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ByteSize

from service.config import Entry, read_toml, write_toml
from service.errors import SettingsError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
PROSE = st.text(st.characters(exclude_categories=["C"]))
VALUES = st.recursive(
    TEXT
    | st.integers()
    | st.floats(allow_nan=False)
    | st.booleans()
    | st.integers(1, 1 << 80).map(ByteSize)
    | st.builds(int.__lshift__, st.integers(1, 1 << 40), st.integers(0, 40)).map(ByteSize),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@given(VALUES, PROSE)
def test_what_is_written_reads_back(value, meaning):
    written = write_toml([Entry("a", value, meaning, "MCDROP_A", "option")])
    found = tomllib.loads(written)["a"]

    def alike(found, value):
        if isinstance(value, ByteSize):
            return int(ByteSize._validate(found, None)) == int(value)
        if isinstance(value, list):
            return len(found) == len(value) and all(map(alike, found, value))
        return found == value and type(found) is type(value)

    assert alike(found, value), written


def test_what_has_no_value_or_is_secret_is_a_comment():
    written = write_toml(
        [
            Entry("a", None, "first", "MCDROP_A", "default"),
            Entry("b", "hunter2", "second", "MCDROP_B", "environment", secret=True),
            Entry("c", 3, "third", "MCDROP_C", "file"),
        ]
    )
    assert tomllib.loads(written) == {"c": 3}
    assert "# a =\n" in written
    assert "# b = (secret, not shown)\n" in written
    assert "# MCDROP_B; environment\n" in written
    assert "hunter2" not in written


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"a = ", "not TOML: Invalid value"),
        (b"a = 1\na = 2", "not TOML: Cannot overwrite a value"),
        (b"a = '\xff'", "not TOML: 'utf-8' codec"),
        (b"a = " + b"[" * 100_000, "not TOML"),
        (b"\0", "not TOML"),
    ],
)
def test_a_file_that_is_not_toml_is_one_line(tmp_path, content, said):
    path = tmp_path / "server.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError) as caught:
        read_toml(path, "settings file")
    assert str(caught.value).startswith(f"settings file '{path}': ")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "said"), [("nowhere", "No such file"), ("", "Is a directory"), ("\0", "null byte")]
)
def test_a_file_that_cannot_be_read_is_one_line(tmp_path, name, said):
    with pytest.raises(SettingsError, match=f"settings file .*: .*{said}"):
        read_toml(tmp_path / name, "settings file")
