"""Networks that others have quantised: their integers, their steps, as they are."""
