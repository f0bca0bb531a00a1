"""From scored models to tables, plots and pages."""
