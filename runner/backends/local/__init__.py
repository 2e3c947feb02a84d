"""This machine: plain processes below the supervisor."""
