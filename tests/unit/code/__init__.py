"""Tests of `runner.code`."""
