"""The live page: what runs told so far, and a word back to them. Stays at home."""
