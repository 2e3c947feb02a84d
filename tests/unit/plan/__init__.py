"""Tests of `runner.plan`."""
