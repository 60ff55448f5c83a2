"""Query understanding: normalisation, spelling, identifiers, attributes, intent, suggestions."""
