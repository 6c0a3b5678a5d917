"""Protocols that measure a frozen encoder; each returns a flat dict of named numbers."""
