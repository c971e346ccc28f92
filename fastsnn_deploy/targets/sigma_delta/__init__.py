"""Stock sigma-delta neurons with graded spikes; not exact, with bounds and measured errors."""
