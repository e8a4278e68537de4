"""The suppression list: who must not be written to, why, and every change that made it so."""
