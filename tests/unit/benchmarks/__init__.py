"""Tests of `benchmarks`: that they compute what they print, not how fast anything is."""
