"""Tests of `runner.untrusted`."""
