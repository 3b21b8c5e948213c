"""Compiled templates are kept where Python keeps its own compiled files, and nowhere else."""

import sys

import pytest

from dpaudit.page import render


def test_templates_are_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    assert render._compiled(tmp_path) is not None
    assert (tmp_path / "__pycache__").is_dir()


@pytest.mark.parametrize("kept", [False, True])
def test_nothing_is_written_where_python_writes_nothing(tmp_path, monkeypatch, kept):
    monkeypatch.setattr(sys, "dont_write_bytecode", not kept)
    monkeypatch.setattr(render.os, "access", lambda path, mode: not kept)
    assert render._compiled(tmp_path) is None
    assert not any(tmp_path.iterdir())
