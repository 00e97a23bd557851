"""What the programs in benches/ share."""
