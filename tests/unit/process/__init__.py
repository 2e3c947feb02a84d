"""Tests of `runner.process`."""
