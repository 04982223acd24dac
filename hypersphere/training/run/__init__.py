"""One run: its data, its loop, its evaluations, its log, its end."""
