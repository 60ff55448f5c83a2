"""Privacy decisions carried out: forgetting, erasure from releases, audits with a receipt."""
