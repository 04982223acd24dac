"""States on disk: sealed, fingerprinted, and restored from damaged folders."""
