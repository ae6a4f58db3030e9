"""Evidence that decides: families of networks, each trained with the recipe that its users use."""
