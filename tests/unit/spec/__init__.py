"""Tests of `runner.spec`."""
