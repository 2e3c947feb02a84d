"""Tests of `runner.train`."""
