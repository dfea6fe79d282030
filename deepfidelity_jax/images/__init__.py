"""Photographs and videos, read safely."""
