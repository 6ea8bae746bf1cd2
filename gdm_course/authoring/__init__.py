"""Authoring: from scripts and package to notebooks and tables, one way, always the same."""
