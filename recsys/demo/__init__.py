"""The default shop: made-up products with pictures, and a year of made-up shoppers. No brand, code
or person in it is real."""
