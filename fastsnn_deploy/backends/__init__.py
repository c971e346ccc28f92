"""What runs exported networks outside this program: Lava on the processor, Loihi 2."""
