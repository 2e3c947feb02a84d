"""Tests of `runner.backends`."""
