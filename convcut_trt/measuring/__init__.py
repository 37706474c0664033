"""How fast an engine is, and how sure that is: timing, comparing, the machine's state, sweeps, results as files."""
