"""The embedded stack: the four real servers on one machine, without Docker. Nothing outside knows which kind runs."""
