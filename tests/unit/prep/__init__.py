"""Tests of `runner.prep`."""
