"""An execution authority: strict intents, deny-by-default policy, isolated claws, and a log that proves what happened."""
