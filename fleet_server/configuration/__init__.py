"""What the fleet and single devices are told to do differently; delivered in the assignment."""
