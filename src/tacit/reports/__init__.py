"""Result tables with intervals, plots, self-contained HTML. May import what lies below."""
