"""Where a run happens: devices, processes, signals, the compilation cache."""
