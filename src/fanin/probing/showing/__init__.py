"""A report as text, data, figure and page."""
