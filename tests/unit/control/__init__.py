"""Tests of `runner.control`."""
