"""The dashboard: its pages, and the data that they show."""
