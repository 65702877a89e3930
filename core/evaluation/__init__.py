"""How good a style or an upscaler is: numbers, tables, pictures."""
