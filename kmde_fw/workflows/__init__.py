"""From a campaign file to fireworks: what is read and checked, what is written, the graph of a cycle, its growth."""
