"""Tests of `runner.cli`."""
