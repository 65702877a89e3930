"""Measure how good a style or an upscaler is, and write tables and pictures."""
