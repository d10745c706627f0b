"""What was taken over from elsewhere is unchanged, listed, and has its licence beside it."""

from __future__ import annotations

import re
from hashlib import sha256
from pathlib import Path

import pytest
from django.conf import settings

VENDOR = Path(settings.BASE_DIR) / "static" / "vendor"
HEAD = ["name", "version", "licence", "source file in the package", "file", "SHA-256"]


def rows() -> list[dict[str, str]]:
    """The table of static/vendor/README.md."""
    lines = [line for line in (VENDOR / "README.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == HEAD
    return [dict(zip(HEAD, row, strict=True)) for row in cells[2:]]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["file"])
def test_a_vendored_file_is_what_its_row_says(row):
    path = VENDOR / row["file"]
    assert sha256(path.read_bytes()).hexdigest() == row["SHA-256"]
    assert path.parent.name == f"{row['name'].split('/')[-1]}-{row['version']}"
    assert re.fullmatch(r"[A-Za-z0-9.\-]+", row["licence"])


def test_every_vendored_file_has_a_row_and_every_folder_a_licence():
    listed = {row["file"] for row in rows()}
    folders = [path for path in VENDOR.iterdir() if path.is_dir()]
    for folder in folders:
        names = {path.relative_to(VENDOR).as_posix() for path in folder.rglob("*") if path.is_file()}
        licences = {name for name in names if Path(name).name.startswith("LICENSE")}
        assert licences, f"{folder.name} has no licence"
        assert names - licences <= listed, f"{folder.name} holds files without a row"
    loose = {path.name for path in VENDOR.iterdir() if path.is_file()} - {"README.md"}
    assert loose == set()


def test_no_vendored_file_points_to_a_map():
    for path in VENDOR.rglob("*.js"):
        assert "sourceMappingURL" not in path.read_text(), path.name
