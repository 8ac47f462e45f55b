"""Find what is fastest on this machine and still right: `edge-et autotune`."""
