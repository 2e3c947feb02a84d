"""Tests of `runner.record`."""
