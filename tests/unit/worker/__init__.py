"""Tests of `runner.worker`."""
