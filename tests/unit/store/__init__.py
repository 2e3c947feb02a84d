"""Tests of `runner.store`."""
