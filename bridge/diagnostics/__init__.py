"""For the person on call: how the bridge is, and what is wrong with its surroundings. Looks, and changes nothing."""
