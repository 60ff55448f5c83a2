"""What a shopper meant: normal form, spelling, codes, facts, intent."""
