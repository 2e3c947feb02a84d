"""Tests of `runner.data`."""
