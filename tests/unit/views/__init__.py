"""Tests of `runner.views`."""
