"""Tests of `runner.values`."""
