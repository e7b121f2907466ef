"""The built-in yard: scenes drawn with known truth, the small models trained on them, and how both are made (SCENES.md)."""
