"""Pictures of items and photos of shoppers, before any model sees them."""
