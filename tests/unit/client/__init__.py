"""Tests of `runner.client`."""
